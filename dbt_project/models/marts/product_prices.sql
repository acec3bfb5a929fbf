-- Every product on every day it was seen, with its price and how that has changed since it was seen before.
with seen as (

    select
        cast(partition_key as date) as day,
        sku,
        name,
        brand,
        category,
        price,
        price_currency,
        price_eur,
        stock
    from {{ source('published', 'shop') }}

),

with_previous as (

    select
        *,
        lag(day) over product_by_day as previous_day,
        lag(price_eur) over product_by_day as previous_price_eur
    from seen
    window product_by_day as (partition by sku order by day)

)

select
    sku || '@' || cast(day as varchar) as product_day,
    day,
    sku,
    name,
    brand,
    category,
    price,
    price_currency,
    price_eur,
    stock,
    previous_day,
    previous_price_eur,
    round(price_eur - previous_price_eur, 2) as change_eur,
    round(100 * (price_eur - previous_price_eur) / nullif(previous_price_eur, 0), 2) as change_percent
from with_previous
