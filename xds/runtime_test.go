package xds

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// TestDiskLayersFollowTheirLink: the values change when the link is swapped.
func TestDiskLayersFollowTheirLink(t *testing.T) {
	dir := t.TempDir()
	for version, value := range map[string]string{"v1": "1", "v2": "2"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, version), 0o755), os.WriteFile(filepath.Join(dir, version, "k"), []byte(value), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to string) {
		tmp := filepath.Join(dir, "tmp")
		if err := errors.Join(os.Symlink(to, tmp), os.Rename(tmp, filepath.Join(dir, "cur"))); err != nil {
			t.Fatal(err)
		}
	}
	link("v1")
	cur := filepath.Join(dir, "cur")
	values := runtime.New([]runtime.Layer{{Name: "d", Kind: runtime.Disk, Root: cur, Directory: cur}}, nil)
	m := NewManager(Options{Log: slog.New(slog.DiscardHandler), Runtime: values})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.watchRuntime(ctx) }()
	k := runtime.UintSetting{Key: "k"}.On(values)
	deadline := time.Now().Add(20 * time.Second)
	for want := range 4 { // there and back, so that nothing is seen by accident
		link([]string{"v1", "v2"}[want%2])
		for k.Get() != uint64(want%2+1) {
			if time.Now().After(deadline) {
				t.Fatalf("k is %d", k.Get())
			}
			goruntime.Gosched()
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
