package filter

// UpstreamFilter is one HTTP filter between the router and a host, which sees each attempt
// by itself (HttpProtocolOptions.http_filters of a cluster, upstream_http_filters of the
// router). The codec, which ends such a chain in the configuration, is not among them.
type UpstreamFilter struct {
	Name     string
	Slot     Slot // where route tables keep this instance's overrides
	Disabled bool // unless a route switches it on
	New      func() HTTP
}

// UpstreamHTTP parses and builds an HTTP filter for a chain behind the router. That of a
// type that cannot run there is an ErrUnknownType.
func (p *Parser) UpstreamHTTP(name string, disabled bool, c Any) (UpstreamFilter, error) {
	f := UpstreamFilter{Name: name, Disabled: disabled}
	if p == nil || p.Registry == nil || !p.Registry.byType[c.Type].upstream {
		return f, &ErrUnknownType{"upstream HTTP", c.Type}
	}
	factory, err := p.HTTP(c)
	if err != nil {
		return f, err
	}
	f.Slot = p.Registry.Slot(name)
	f.New, err = factory(Env{Name: name, Slot: f.Slot})
	return f, err
}
