"""The ground floor: the store, manifests, decisions and lineage questions. Knows no stage and no Prefect."""
