package lb

// Zones says how many of the requests of a zone stay in it, and where the others go
// (zone aware routing). The zero value leaves every request where chance puts it.
type Zones struct {
	State ZoneState
	// Local is how many of 10000 requests stay in the local zone, which is number 0.
	Local uint64
	// residual is how much each zone can take from others, each with those before it.
	residual []uint64
}

// ZoneState is what zone aware routing came to.
type ZoneState uint8

// The states.
const (
	AnyZone      ZoneState = iota // zones don't count
	LocalZone                     // everything stays
	ResidualZone                  // Local stays, the rest goes where there is room
)

// Zone is the healthy hosts of one zone: ours of the cluster that is asked, and of the
// cluster that we belong to.
type Zone struct{ Upstream, Local int }

// NewZones shares the load out. hasLocal says that zone 0 is the one that we are in;
// direct (force_locality_direct_routing) keeps everything there. localTotal is how many
// healthy hosts our own cluster has, those in zones that the other one has not included.
func NewZones(zones []Zone, localTotal int, hasLocal, direct bool) Zones {
	total := 0
	for _, z := range zones {
		total += z.Upstream
	}
	percent := func(n, of int) uint64 {
		if of == 0 {
			return 0
		}
		return uint64(10000 * n / of)
	}
	of := func(z Zone) (local, upstream uint64) {
		if z.Upstream == 0 {
			return 0, 0
		}
		return percent(z.Local, localTotal), percent(z.Upstream, total)
	}
	z := Zones{State: ResidualZone, residual: make([]uint64, len(zones))}
	if hasLocal {
		local, upstream := of(zones[0])
		if direct || upstream > 0 && upstream >= local {
			return Zones{State: LocalZone}
		}
		if local > 0 {
			z.Local = upstream * 10000 / local
		}
	}
	sum := uint64(0)
	for i := range zones {
		local, upstream := of(zones[i])
		if !(i == 0 && hasLocal) && upstream > local {
			sum += upstream - local
		}
		z.residual[i] = sum
	}
	return z
}

// Route is what became of a request.
type Route uint8

// The routes.
const (
	Sampled        Route = iota // stays in the local zone, by chance
	CrossZone                   // goes to a zone that has room
	NoCapacityLeft              // goes anywhere, because nothing has room
)

// Choose returns the zone that a request goes to when not all of them stay.
func (z *Zones) Choose(rnd func() uint64) (zone int, route Route) {
	if rnd()%10000 < z.Local {
		return 0, Sampled
	}
	last := z.residual[len(z.residual)-1]
	if last == 0 {
		return int(rnd() % uint64(len(z.residual))), NoCapacityLeft
	}
	at := rnd() % last
	for i, r := range z.residual {
		if at < r {
			return i, CrossZone
		}
	}
	return 0, CrossZone
}
