-- Each category on each day: how many products, what they cost, how many of them can be had.
select
    coalesce(category, '(none)') || '@' || cast(day as varchar) as category_day,
    day,
    coalesce(category, '(none)') as category,
    count(*) as products,
    count(price_eur) as priced_products,
    round(avg(price_eur), 2) as avg_price_eur,
    min(price_eur) as min_price_eur,
    max(price_eur) as max_price_eur,
    round(avg(case when stock > 0 then 1 when stock is not null then 0 end), 4) as in_stock_share
from {{ ref('product_prices') }}
group by day, coalesce(category, '(none)')
