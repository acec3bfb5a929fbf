-- Every product that the shop ever had, with what its reviewers say. A review counts once, as it stood last.
with products as (

    select
        sku,
        arg_max_null(name, day) as name, -- arg_max would go back to the last day that had one
        arg_max_null(category, day) as category,
        max(day) as last_seen
    from {{ ref('product_prices') }}
    group by sku

),

latest_reviews as (

    select sku, stars, date
    from {{ source('published', 'reviews') }}
    qualify row_number() over (partition by review_id order by partition_key desc) = 1

)

select
    products.sku,
    products.name,
    products.category,
    products.last_seen,
    count(latest_reviews.sku) as reviews,
    round(avg(latest_reviews.stars), 2) as average_stars,
    max(latest_reviews.date) as last_review
from products
left join latest_reviews on products.sku = latest_reviews.sku
group by products.sku, products.name, products.category, products.last_seen
