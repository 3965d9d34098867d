package ca

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The files of an authority.
const (
	rootsFile = "roots.json"
	lockFile  = "lock"
	maxRoots  = 1 << 20 // bytes of rootsFile
)

// stored is a root as it stands in rootsFile. Certificate and key are PEM.
type stored struct {
	Certificate string    `json:"certificate"`
	PrivateKey  string    `json:"private_key,omitempty"`
	SignsFrom   time.Time `json:"signs_from"`
	LongestTTL  string    `json:"longest_ttl"`
}

type storedRoots struct {
	Roots []stored `json:"roots"` // oldest first
}

// lockDir makes the directory and keeps other processes out of it: the server, and a
// command that replaces the root, both change the file.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("ca: others than the owner may enter %s (%v): chmod 700 %[1]s", dir, info.Mode().Perm())
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close() //nolint:errcheck // nothing was written
		return nil, fmt.Errorf("ca: lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil //nolint:errcheck // which unlocks; nothing was written
}

// readRoots returns no roots where there is no file.
func readRoots(dir string) ([]*root, error) {
	path := filepath.Join(dir, rootsFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("ca: %w", err)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("ca: others than the owner may read %s (%v): its keys cannot be trusted any more", path, info.Mode().Perm())
	case info.Size() > maxRoots:
		return nil, fmt.Errorf("ca: %s has %d bytes", path, info.Size())
	}
	var in storedRoots
	if err := json.NewDecoder(f).Decode(&in); err != nil {
		return nil, fmt.Errorf("ca: %s: %w", path, err)
	}
	if len(in.Roots) == 0 {
		return nil, fmt.Errorf("ca: %s: has no root", path)
	}
	var out []*root
	for i, s := range in.Roots {
		r, err := s.root()
		if err != nil {
			return nil, fmt.Errorf("ca: %s: roots[%d]: %w", path, i, err)
		}
		if r.key == nil && i == len(in.Roots)-1 {
			return nil, fmt.Errorf("ca: %s: roots[%d]: the newest root has no key", path, i)
		}
		out = append(out, r)
	}
	return out, nil
}

func (s *stored) root() (*root, error) {
	r := &root{signsFrom: s.SignsFrom}
	b, _ := pem.Decode([]byte(s.Certificate))
	if b == nil {
		return nil, errors.New("certificate: is not PEM")
	}
	var err error
	if r.cert, err = x509.ParseCertificate(b.Bytes); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if r.longest, err = time.ParseDuration(s.LongestTTL); err != nil {
		return nil, fmt.Errorf("longest_ttl: %w", err)
	}
	if s.PrivateKey == "" {
		return r, nil
	}
	if b, _ = pem.Decode([]byte(s.PrivateKey)); b == nil {
		return nil, errors.New("private_key: is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, errors.New("private_key: is not PKCS #8") // the cause may quote it
	}
	var ok bool
	if r.key, ok = key.(*ecdsa.PrivateKey); !ok || !r.key.PublicKey.Equal(r.cert.PublicKey) {
		return nil, errors.New("private_key: is not that of the certificate")
	}
	return r, nil
}

// writeRoots replaces the file as a whole; it is on the disk when it returns.
func writeRoots(dir string, roots []*root) error {
	var out storedRoots
	for _, r := range roots {
		s := stored{
			Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})),
			SignsFrom:   r.signsFrom, LongestTTL: r.longest.String(),
		}
		if r.key != nil {
			raw, err := x509.MarshalPKCS8PrivateKey(r.key)
			if err != nil {
				return fmt.Errorf("ca: encode a key: %w", err)
			}
			s.PrivateKey = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
		}
		out.Roots = append(out.Roots, s)
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	f, err := os.CreateTemp(dir, rootsFile+".*") // 0600
	if err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, rootsFile))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use
		return fmt.Errorf("ca: %w", err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	defer d.Close() //nolint:errcheck // only synced
	if err := d.Sync(); err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	return nil
}
