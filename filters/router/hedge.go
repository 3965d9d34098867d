package router

// hedge says when a second attempt begins while the first one is still under way.
type hedge struct {
	onTimeout bool // hedge_on_per_try_timeout
}
