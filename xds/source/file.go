// Package source reads xDS resources from files: path_config_source, a file with a
// DiscoveryResponse in YAML or JSON, applied again whenever it is replaced. It
// speaks to the same handler as xds/ads.
//
// Not here: the folder that mecha-control serves (xds/control), and the bootstrap
// file itself (xds/bootstrap).
package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// quiet is how long a file must be left alone before it is read again.
const quiet = 50 * time.Millisecond

// Config says which file feeds which type.
type Config struct {
	// Path is the file (path_config_source.path).
	Path string
	// WatchedDirectory is path_config_source.watched_directory.path: the directory
	// whose changes mean that the file has changed; empty is the file's own.
	WatchedDirectory string
	// TypeURL is the type of the resources; others in the file are refused.
	TypeURL string
	// Names limits what is taken (RDS, EDS); empty takes the file as the complete
	// set of its type and removes what it no longer has (LDS, CDS).
	Names   []string
	Handler ads.Handler
	// Logger may be nil: nothing is logged.
	Logger *slog.Logger
}

// File is one watched file.
type File struct {
	cfg       Config
	log       *slog.Logger
	inventory ads.Inventory
	answered  bool
	content   [sha256.Size]byte // of the file as it was read last
	refused   bool              // something in it: it is tried again whenever anything changes
	known     known

	mu    sync.Mutex
	stats ads.TypeStats
}

// Open checks that the file exists, as Envoy does when it loads the bootstrap. It
// is not read yet.
func Open(cfg Config) (*File, error) {
	switch {
	case cfg.Handler == nil:
		return nil, errors.New("source: no handler")
	case cfg.TypeURL == "":
		return nil, errors.New("source: no type URL")
	}
	if _, err := os.Stat(cfg.Path); err != nil {
		return nil, fmt.Errorf("source: path_config_source.path: %w", err)
	}
	if cfg.WatchedDirectory == "" {
		cfg.WatchedDirectory = filepath.Dir(cfg.Path)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &File{cfg: cfg, log: log}, nil
}

// Run applies the file, and again after each change, until ctx ends; then it
// returns nil. A file that can't be read, or a resource that is refused, leaves
// what was applied before in place.
func (f *File) Run(ctx context.Context) error {
	w, err := NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Set(f.cfg.WatchedDirectory); err != nil {
		return err
	}
	for {
		f.load()
		if err := w.Wait(ctx, quiet); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := w.Set(f.cfg.WatchedDirectory); err != nil {
			f.log.Warn("xds: can't watch for changes", "error", err) // replaced; found again with its next change
		}
	}
}

// Stats returns a copy of the counters.
func (f *File) Stats() ads.TypeStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

func (f *File) load() {
	src, err := bootstrap.ReadSource(f.cfg.Path)
	content := sha256.Sum256(src.Data)
	if err == nil && f.answered && !f.refused && content == f.content {
		return // another file of the directory changed
	}
	var r ads.Response
	if err == nil {
		r, err = f.known.read(src, f.cfg.TypeURL)
	}
	if err != nil {
		f.log.Warn("xds: file not applied, the version before stays", "path", f.cfg.Path, "error", err)
		f.mu.Lock()
		f.stats.UpdateAttempt++
		f.stats.UpdateFailure++
		f.mu.Unlock()
		if !f.answered { // nothing better is to be expected soon
			f.answered = true
			if len(f.cfg.Names) == 0 {
				f.cfg.Handler.FetchTimedOut(f.cfg.TypeURL, ads.Wildcard)
			}
			f.giveUp()
		}
		return
	}
	complete := len(f.cfg.Names) == 0
	u, refused := f.inventory.Diff(r, func(name string) bool { return complete || slices.Contains(f.cfg.Names, name) }, complete)
	u.First = !f.answered
	u.Bytes *= 10 // reading text makes that much more to collect than reading protobuf
	f.content = content
	if !u.First && len(u.Changed)+len(u.Removed)+len(refused) == 0 {
		return // what it says is the same
	}
	f.answered = true
	late := f.cfg.Handler.Apply(u)
	f.inventory.Commit(u, late)
	if u.First {
		f.giveUp()
	}
	refused = append(refused, late...)
	f.refused = len(refused) > 0
	for _, bad := range refused {
		f.log.Warn("xds: resource refused", "path", f.cfg.Path, "type", ads.ShortType(f.cfg.TypeURL), "name", bad.Name, "error", bad.Err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.UpdateAttempt++
	f.stats.Resources = f.inventory.Len()
	if len(refused) > 0 {
		f.stats.UpdateRejected++
		return
	}
	f.stats.UpdateSuccess++
	f.stats.Reloads++
	f.stats.SetVersion(r.Version)
	f.stats.UpdateTime = time.Now()
}

// giveUp tells those who wait for what is not in the file to wait no more.
func (f *File) giveUp() {
	for _, name := range f.cfg.Names {
		if !f.inventory.Has(name) {
			f.cfg.Handler.FetchTimedOut(f.cfg.TypeURL, name)
		}
	}
}

// Read reads a file with a DiscoveryResponse as a response of that type. Resources
// that can't be decoded are listed as malformed with their line and path; the error
// is for a file that is no DiscoveryResponse at all.
func Read(path, typeURL string) (ads.Response, error) {
	src, err := bootstrap.ReadSource(path)
	if err != nil {
		return ads.Response{}, err
	}
	return (&known{}).read(src, typeURL)
}

// known are the resources of the last reading by the text that they were read from:
// what has not changed is not decoded again.
type known struct {
	by map[[sha256.Size]byte]ads.Resource
}

func (k *known) read(src bootstrap.Source, typeURL string) (ads.Response, error) {
	docs, err := bootstrap.Documents(src)
	if err != nil {
		return ads.Response{}, err
	}
	doc := docs[0]
	list, ok := doc.Get("resources")
	if !ok {
		return ads.Response{}, doc.Problem(`expected a DiscoveryResponse: an object with a "resources" list, each with "@type"`)
	}
	items, ok := list.Items()
	if !ok {
		items = []bootstrap.Document{list}
	}
	out := ads.Response{TypeURL: typeURL}
	for _, key := range []string{"version_info", "versionInfo"} {
		if v, ok := doc.Get(key); ok {
			out.Version = v.Text()
		}
	}
	now := make(map[[sha256.Size]byte]ads.Resource, len(items))
	defer func() { k.by = now }()
	for _, item := range items {
		text := item.Fingerprint()
		if r, ok := k.by[text]; ok {
			r.Version = out.Version
			now[text] = r
			out.Resources = append(out.Resources, r)
			continue
		}
		body := new(anypb.Any)
		_, err := item.Decode(body, bootstrap.Options{AllowUnknownFields: true, KeepUnknownTypes: true})
		name := ""
		if err == nil {
			name, err = ads.NameOf(body)
		}
		if err != nil {
			out.Malformed = append(out.Malformed, ads.Refusal{Name: itemName(item), Err: err})
			continue
		}
		now[text] = ads.Resource{Name: name, Version: out.Version, Body: body, Digest: ads.DigestOf(body)}
		out.Resources = append(out.Resources, now[text])
	}
	return out, nil
}

// itemName names a resource that could not be decoded: by its name, else by place.
func itemName(item bootstrap.Document) string {
	for _, key := range []string{"name", "cluster_name", "clusterName"} {
		if v, ok := item.Get(key); ok && v.Text() != "" {
			return v.Text()
		}
	}
	return item.Path()
}

// TypeURL is the type that the file feeds.
func (f *File) TypeURL() string { return f.cfg.TypeURL }
