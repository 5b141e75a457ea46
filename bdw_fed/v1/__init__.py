"""Generated from protos/bdw_fed/v1 by `make protos`."""
