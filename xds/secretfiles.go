package xds

import (
	"context"
	"crypto/sha256"
	"io"
	"path/filepath"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/source"
)

// secretQuiet is how long the directories of secrets must be left alone before their files
// are read again: a certificate and its key are written one after the other.
const secretQuiet = 50 * time.Millisecond

// maxSecretFile is as much of a file as is looked at to see whether it has changed.
const maxSecretFile = 4 << 20

// secretFiles are the files that a secret names, with the secret as it came, to be read
// again when they change. Immutable but for digest.
type secretFiles struct {
	names  []string
	dirs   []string // where a change is looked for
	pb     *tlsv3.Secret
	digest [sha256.Size]byte // of what the files held when they were read last
}

// filesOf returns the files of a secret as they are now, nil where it names none. The
// directory of a file is watched unless a watched_directory says otherwise.
func filesOf(pb *tlsv3.Secret) *secretFiles {
	f := &secretFiles{pb: pb}
	walk(pb.ProtoReflect(), func(m protoreflect.Message) {
		switch x := m.Interface().(type) {
		case *corev3.WatchedDirectory:
			f.watch(x.GetPath())
		case *corev3.DataSource:
			if x.GetFilename() != "" {
				f.names = append(f.names, x.GetFilename())
			}
		}
	})
	if len(f.names) == 0 {
		return nil
	}
	if len(f.dirs) == 0 {
		for _, n := range f.names {
			f.watch(filepath.Dir(n))
		}
	}
	f.pb = proto.CloneOf(pb)
	f.digest = f.read()
	return f
}

func (f *secretFiles) watch(dir string) {
	if dir != "" && !slices.Contains(f.dirs, dir) {
		f.dirs = append(f.dirs, dir)
	}
}

// read returns a digest of what is in the files. One that cannot be read counts as empty:
// the error comes when the secret is parsed.
func (f *secretFiles) read() (digest [sha256.Size]byte) {
	all := sha256.New()
	for _, n := range f.names {
		one := sha256.New()
		if file, _, err := fromproto.OpenFile(n); err == nil {
			_, _ = io.Copy(one, io.LimitReader(file, maxSecretFile)) // what is missing is seen by who parses it
			_ = file.Close()                                         // it was only read from
		}
		all.Write(one.Sum(nil))
	}
	return [sha256.Size]byte(all.Sum(nil))
}

// secretFilesChanged tells who watches the files of secrets that there are others now.
// The lock is held.
func (m *Manager) secretFilesChanged() {
	if m.secretDirs != nil {
		m.secretDirs()
	}
}

// fileSecrets are the secrets that name files, and the directories to watch. The lock is
// held.
func (m *Manager) fileSecrets() (list []*namedSecret, dirs []string) {
	for _, table := range []map[ref]*namedSecret{m.secretTable, m.staticTable()} {
		for _, s := range table {
			if s.files == nil {
				continue
			}
			list = append(list, s)
			for _, d := range s.files.dirs {
				if !slices.Contains(dirs, d) {
					dirs = append(dirs, d)
				}
			}
		}
	}
	slices.Sort(dirs)
	return list, dirs
}

func (m *Manager) staticTable() map[ref]*namedSecret {
	out := make(map[ref]*namedSecret, len(m.staticSecrets))
	for _, s := range m.staticSecrets {
		out[s.ref] = s
	}
	return out
}

// watchSecrets reads the files of secrets again when something changes where they are,
// until ctx ends. All have one watcher: the kernel gives a user few.
func (m *Manager) watchSecrets(ctx context.Context) error {
	var w *source.Watcher
	defer func() {
		if w != nil {
			w.Close()
		}
	}()
	for {
		again, others := context.WithCancel(ctx)
		m.mu.Lock()
		m.secretDirs = others
		_, dirs := m.fileSecrets()
		m.mu.Unlock()
		if w == nil && len(dirs) > 0 {
			var err error
			if w, err = source.NewWatcher(); err != nil {
				others()
				return err
			}
		}
		if w == nil {
			<-again.Done()
		} else {
			if err := w.Set(dirs...); err != nil {
				m.log.Warn("secrets will not be renewed when their files change", "error", err)
			}
			m.readSecrets() // they may have changed before they were watched
			_ = w.Wait(again, secretQuiet)
		}
		others()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// readSecrets reads again what has changed. What is not good now leaves the version before
// in place, and is tried again with the next change.
func (m *Manager) readSecrets() {
	m.mu.Lock()
	list, _ := m.fileSecrets()
	m.mu.Unlock()
	for _, s := range list {
		m.mu.Lock()
		files := s.files
		m.mu.Unlock()
		if now := files.read(); now != files.digest {
			m.renewSecret(s, files, now)
		}
	}
}

// renewSecret takes what the files of a secret hold now.
func (m *Manager) renewSecret(s *namedSecret, files *secretFiles, digest [sha256.Size]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.files != files { // another version of the secret has come
		return
	}
	v, err := parseSecret(files.pb, m.parser())
	if err == nil {
		err = s.put(v)
	}
	if err != nil {
		if w := m.secrets.watches[s.ref]; w != nil {
			w.rotation.Failed.Inc()
		}
		m.log.Warn("the files of a secret have changed and cannot be used; those before stay in use",
			"type", ads.ShortType(ads.SecretType), "name", s.ref.name, "error", err)
		return
	}
	files.digest, s.updated = digest, time.Now()
}
