"""Great Expectations, evaluated in Polars: one planner of metrics, two front doors.

Door A is an execution engine with a fluent datasource (`engine`, `datasource`), by which Validator, Checkpoint,
ValidationDefinition and Data Docs work as they are. Door B is a suite compiled once and run on many frames
(`compiled`), and `proof`, which tells that a frame passes without Great Expectations in memory.

Both ask the same planner: `plan` has the words, `conditions`, `text_conditions` and `aggregates` the metrics, `maps`
what can be asked of a condition, `resolve` computes. None of these imports Great Expectations, nor do `proof`, `regex`,
`rows`, `literal`, `types` and `row_condition`; `private` has every private name of it that the others use.
"""
