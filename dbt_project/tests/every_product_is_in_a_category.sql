-- The categories of a day add up to its products. Rows: days on which they do not.
{{ config(meta={'dagster': {'ref': {'name': 'category_prices'}}}) }}

with by_category as (
    select day, sum(products) as products from {{ ref('category_prices') }} group by day
),

by_product as (
    select day, count(*) as products from {{ ref('product_prices') }} group by day
)

select day, by_category.products as in_categories, by_product.products as in_all
from by_product
full join by_category using (day)
where by_category.products is distinct from by_product.products
