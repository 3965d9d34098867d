package wasm

// configuration is proxy_get_configuration of ABI 0.1.0.
func (in *Instance) configuration(a []uint64) Status {
	text, _ := in.text(PluginConfiguration)
	return in.give(text, a[0], a[1])
}
