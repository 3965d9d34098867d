package control

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// Folder is a directory of resource files. It remembers what each file last held
// when it was good. Not safe for concurrent use.
type Folder struct {
	dir   string
	files map[string]*file // by path relative to dir
}

// file is one file's last state.
type file struct {
	data      []byte // as last read, good or not
	resources []*Resource
	warnings  []bootstrap.Finding
	err       error // of data; resources are then from before
}

// State is what a folder holds after a Load.
type State struct {
	// Sets by group: "" for every node, others for the nodes named like the
	// subfolder, the folder's own resources included.
	Sets map[string]Set
	// Files is how many files there are; Stale lists those whose last good
	// content stands in for what they hold now, sorted.
	Files int
	Stale []string
	// Problems are errors, one for each broken file or misplaced resource.
	Problems []error
	// Warnings are remarks on resources that are served all the same.
	Warnings []string
}

// NewFolder returns a folder that hasn't been read.
func NewFolder(dir string) *Folder { return &Folder{dir: dir, files: map[string]*file{}} }

// Dirs lists the directories that hold files: the folder and its subfolders.
func (f *Folder) Dirs() []string {
	dirs := []string{f.dir}
	entries, _ := os.ReadDir(f.dir) // unreadable: Load says so
	for _, e := range entries {
		if p := filepath.Join(f.dir, e.Name()); !hidden(e.Name()) && isDir(p) {
			dirs = append(dirs, p)
		}
	}
	return dirs
}

// Load reads the folder again. The error is for a folder that can't be listed;
// what was loaded before then stays as it was.
func (f *Folder) Load() (State, error) {
	found := map[string]bool{}
	for _, dir := range f.Dirs() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return State{}, fmt.Errorf("read folder: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if hidden(e.Name()) || !isResourceFile(e.Name()) || isDir(path) {
				continue
			}
			rel, err := filepath.Rel(f.dir, path)
			if err != nil {
				return State{}, fmt.Errorf("read folder: %w", err)
			}
			found[rel] = true
			f.load(rel)
		}
	}
	maps.DeleteFunc(f.files, func(rel string, _ *file) bool { return !found[rel] })
	return f.state(), nil
}

// load reads one file; a broken one keeps the resources it had.
func (f *Folder) load(rel string) {
	old := f.files[rel]
	if old == nil {
		old = &file{}
		f.files[rel] = old
	}
	src, err := bootstrap.ReadSource(filepath.Join(f.dir, rel))
	if err != nil {
		old.data, old.err = nil, err
		return
	}
	if old.data != nil && bytes.Equal(src.Data, old.data) {
		return
	}
	src.Name = rel
	old.data = src.Data
	if old.data == nil {
		old.data = []byte{}
	}
	resources, warnings, err := readFile(src)
	old.warnings, old.err = warnings, err
	if err == nil {
		old.resources = resources
	}
}

// state puts the files together.
func (f *Folder) state() State {
	s := State{Sets: map[string]Set{"": {}}, Files: len(f.files)}
	paths := slices.Sorted(maps.Keys(f.files))
	own := map[string]Set{}
	for _, rel := range paths {
		file := f.files[rel]
		if file.err != nil {
			s.Problems = append(s.Problems, file.err)
			s.Stale = append(s.Stale, rel)
		}
		for _, w := range file.warnings {
			s.Warnings = append(s.Warnings, w.String())
		}
		group := filepath.Dir(rel)
		if group == "." {
			group = ""
		}
		if own[group] == nil {
			own[group] = Set{}
		}
		for _, r := range file.resources {
			if first, dup := own[group][r.key()]; dup {
				s.Problems = append(s.Problems, fmt.Errorf("%s: %s is already in %s, which is used", r.where(), r, first.where()))
				continue
			}
			own[group][r.key()] = r
		}
	}
	for group, set := range own {
		merged := maps.Clone(own[""])
		if merged == nil {
			merged = Set{}
		}
		maps.Copy(merged, set)
		s.Sets[group] = merged
	}
	for _, w := range warnings(s.Sets) {
		if !slices.Contains(s.Warnings, w) {
			s.Warnings = append(s.Warnings, w)
		}
	}
	return s
}

// hidden tells editors' and Kubernetes' own files, which are never resources.
func hidden(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "~")
}

func isResourceFile(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// isDir follows links: a ConfigMap's files and folders are links.
func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().Type() == fs.ModeDir
}
