"""The store on etcd, with a thin client of our own."""
