package source

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watcher reports that something in a set of directories changed: a file written,
// moved in, replaced or removed, a symbolic link swapped (as Kubernetes does for a
// mounted ConfigMap). It doesn't say what: look again.
type Watcher struct {
	fs *fsnotify.Watcher
}

// NewWatcher returns a watcher of no directory.
func NewWatcher() (*Watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("source: watch for file changes: %w", err)
	}
	return &Watcher{fs}, nil
}

// Set makes dirs the watched directories. It watches what it can and returns the
// first error.
func (w *Watcher) Set(dirs ...string) error {
	var first error
	have := w.fs.WatchList()
	for _, dir := range have {
		if !slices.Contains(dirs, dir) {
			_ = w.fs.Remove(dir) // fails when the directory is gone already
		}
	}
	for _, dir := range dirs {
		if err := w.fs.Add(dir); err != nil && first == nil {
			first = fmt.Errorf("source: watch %s: %w", dir, err)
		}
	}
	return first
}

// Wait blocks until a change and then until nothing has changed for quiet, so that
// an editor's or an unpacker's steps count as one; steady changes are reported
// after ten times that. It returns ctx's error when ctx ends first.
func (w *Watcher) Wait(ctx context.Context, quiet time.Duration) error {
	return w.wait(ctx, quiet, func(e fsnotify.Event) bool { return e.Op != fsnotify.Chmod })
}

// WaitFor is Wait for one of these paths to be put in place: made, or moved there.
func (w *Watcher) WaitFor(ctx context.Context, quiet time.Duration, paths []string) error {
	return w.wait(ctx, quiet, func(e fsnotify.Event) bool { return e.Has(fsnotify.Create) && slices.Contains(paths, e.Name) })
}

func (w *Watcher) wait(ctx context.Context, quiet time.Duration, counts func(fsnotify.Event) bool) error {
	var settle, latest <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.fs.Events:
			if !ok {
				return fsnotify.ErrClosed
			}
			if !counts(e) {
				continue
			}
		case _, ok := <-w.fs.Errors: // lost events: look again too
			if !ok {
				return fsnotify.ErrClosed
			}
		case <-settle:
			return nil
		case <-latest:
			return nil
		}
		settle = time.After(quiet)
		if latest == nil {
			latest = time.After(10 * quiet)
		}
	}
}

// Close ends the watch and a Wait under way.
func (w *Watcher) Close() { _ = w.fs.Close() }
