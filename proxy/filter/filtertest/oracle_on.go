//go:build oracle

package filtertest

// oracle is whether dialogues are also played against the proxy that MECHA_ENVOY names.
const oracle = true
