package ads

import (
	"errors"
	"fmt"
	"slices"
)

// Response is a control plane's answer with names and digests worked out, the
// same for both variants and for files.
type Response struct {
	TypeURL string
	Version string
	Nonce   string
	// ControlPlane is control_plane.identifier.
	ControlPlane string
	// Resources in the order received; none of them has an empty name.
	Resources []Resource
	// Removed is removed_resources (delta only).
	Removed []string
	// Malformed lists what could not be named or read, by position.
	Malformed []Refusal
}

// held is what is remembered of an accepted resource: enough to recognise it
// when it comes again, and to tell a delta server what we have.
type held struct {
	digest  Digest
	version string
}

// Inventory remembers which resources of one type were accepted. The zero value
// is empty and ready. It keeps no bodies. Not safe for concurrent use.
type Inventory struct {
	held map[string]held
}

// Len is the number of accepted resources.
func (v *Inventory) Len() int { return len(v.held) }

// Has reports whether a resource of that name was accepted and not removed since.
func (v *Inventory) Has(name string) bool {
	_, ok := v.held[name]
	return ok
}

// Names returns the accepted names, sorted.
func (v *Inventory) Names() []string { return sortedKeys(v.held) }

// Forget drops a name that is no longer used.
func (v *Inventory) Forget(name string) { delete(v.held, name) }

// Void keeps a name but forgets its bytes and version: its next copy counts as
// changed, and its absence still as a removal.
func (v *Inventory) Void(name string) {
	if _, ok := v.held[name]; ok {
		v.held[name] = held{}
	}
}

// Diff compares a response with what was accepted before. Resources and removals
// that wanted rejects are ignored. With complete set, the response is the whole
// set of its type and accepted names missing from it are removed; a response with
// unreadable resources removes nothing, because one of those may be the missing name.
// The refusals are of resources that never reach the handler.
func (v *Inventory) Diff(r Response, wanted func(name string) bool, complete bool) (Update, []Refusal) {
	u := Update{TypeURL: r.TypeURL, Version: r.Version}
	refused := slices.Clone(r.Malformed)
	var none []string
	seen := make(map[string]struct{}, len(r.Resources))
	for _, res := range r.Resources {
		u.Bytes += len(res.Body.GetValue())
		if !wanted(res.Name) {
			continue
		}
		if _, dup := seen[res.Name]; dup {
			refused = append(refused, Refusal{res.Name, errDuplicate})
			continue
		}
		seen[res.Name] = struct{}{}
		h, known := v.held[res.Name]
		switch {
		case res.Body == nil && known && h.version == res.Version:
			u.Unchanged++ // a heartbeat that renews the resource's time to live
			u.Same = append(u.Same, res.Name)
		case res.Body == nil && r.TypeURL == VirtualHostType:
			none = append(append(none, res.Name), res.Aliases...) // VHDS says so where others list it as removed
		case res.Body == nil:
			refused = append(refused, Refusal{res.Name, errNoBody})
		case res.Body.GetTypeUrl() != r.TypeURL:
			refused = append(refused, Refusal{res.Name, fmt.Errorf("type %q in a response of type %q", res.Body.GetTypeUrl(), r.TypeURL)})
		case known && h.digest == res.Digest:
			v.held[res.Name] = held{res.Digest, res.Version}
			u.Unchanged++
			u.Same = append(u.Same, res.Name)
		default:
			u.Changed = append(u.Changed, res)
		}
	}
	gone := make(map[string]struct{}, len(r.Removed))
	for _, name := range none {
		if wanted(name) {
			gone[name] = struct{}{}
		}
	}
	for _, name := range r.Removed {
		if _, both := seen[name]; both {
			refused = append(refused, Refusal{name, errBoth})
		} else if wanted(name) {
			gone[name] = struct{}{}
		}
	}
	if complete && len(r.Malformed) == 0 {
		for name := range v.held {
			if _, ok := seen[name]; !ok {
				gone[name] = struct{}{}
			}
		}
	}
	u.Removed = sortedKeys(gone)
	return u, refused
}

// Commit records an update after a handler has applied it, except what it refused.
func (v *Inventory) Commit(u Update, refused []Refusal) {
	bad := make(map[string]struct{}, len(refused))
	for _, r := range refused {
		bad[r.Name] = struct{}{}
		if h, ok := v.held[r.Name]; ok {
			// The version before is in effect. When it comes again the handler hears of
			// it, since that ends the refusal.
			v.held[r.Name] = held{version: h.version}
		}
	}
	if v.held == nil && len(u.Changed) > 0 {
		v.held = make(map[string]held, len(u.Changed))
	}
	for _, res := range u.Changed {
		if _, ok := bad[res.Name]; !ok {
			v.held[res.Name] = held{res.Digest, res.Version}
		}
	}
	for _, name := range u.Removed {
		delete(v.held, name)
	}
}

// versions maps accepted names that pass the filter to their versions.
func (v *Inventory) versions(wanted func(string) bool) map[string]string {
	out := make(map[string]string, len(v.held))
	for name, h := range v.held {
		if wanted(name) {
			out[name] = h.version
		}
	}
	return out
}

var (
	errDuplicate = errors.New("named twice in one response; the first is used")
	errNoBody    = errors.New("no resource body")
	errBoth      = errors.New("both sent and listed in removed_resources; the removal is ignored")
)

// sortedKeys returns the keys of m in order, nil when there are none.
func sortedKeys[V any](m map[string]V) []string {
	if len(m) == 0 {
		return nil
	}
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
