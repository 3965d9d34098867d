package cluster

// Cluster is a running cluster. Package comment and Spec say what it does.
type Cluster struct{ spec *Spec }

// Host is one endpoint of a cluster.
type Host struct{}
