{# The columns name one row. dbt itself has such a test for single columns only. #}
{% test unique_together(model, columns) %}
SELECT {{ columns | join(", ") }}
FROM {{ model }}
GROUP BY {{ columns | join(", ") }}
HAVING COUNT(*) > 1
{% endtest %}
