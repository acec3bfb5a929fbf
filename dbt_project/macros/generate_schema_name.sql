{# A model's schema is the one it declares (`marts`), not dbt's `<target schema>_<declared>`. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name | trim if custom_schema_name else target.schema }}
{%- endmacro %}
