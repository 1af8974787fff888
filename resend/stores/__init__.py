"""The stores: evidence (immutable Parquet), catalog snapshots, derived results, and the ledger (the mutable truth)."""
