"""The platform on a real cluster. Fixtures are in `conftest.py`; `make test-k8s` runs these tests."""
