// Package wasmkit is for authors of Proxy-Wasm filters: it makes the folder of a new one,
// builds it with its language's own tools, plays dialogues against it and serves traffic
// through it while it is being written.
package wasmkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// language is how filters in one language are made.
type language struct {
	name, title string
	sign        string            // files by which a folder in it is known, a glob
	templates   map[string]string // of a new filter, by the path that they get
	tools       []tool
	// build makes out, an absolute path, from the folder.
	build func(ctx context.Context, b *builder) error
}

// tool is a program that has to be there.
type tool struct{ program, install string }

func languages() []*language {
	return []*language{rust(), golang(), assemblyScript(), c()}
}

// Languages are the names of the languages that New knows.
func Languages() (names []string) {
	for _, l := range languages() {
		names = append(names, l.name)
	}
	return names
}

// languageOf recognises what a folder is written in.
func languageOf(dir string) (*language, error) {
	for _, l := range languages() {
		if files, err := filepath.Glob(filepath.Join(dir, l.sign)); err == nil && len(files) > 0 {
			return l, nil
		}
	}
	return nil, fmt.Errorf("%s has neither Cargo.toml, go.mod, package.json nor a file in C: mecha wasm new makes a folder to begin with", dir)
}

// check says what to install where a tool is missing.
func (l *language) check() error {
	for _, t := range l.tools {
		if _, err := exec.LookPath(t.program); err != nil {
			return fmt.Errorf("filters in %s are built with %s, which is not installed: %s", l.title, t.program, t.install)
		}
	}
	return nil
}

// builder is one build.
type builder struct {
	dir, out string
	log      io.Writer
}

// run runs a program in the folder.
func (b *builder) run(ctx context.Context, env []string, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = b.dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return nil
}

// output runs a program in the folder and returns what it says.
func (b *builder) output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = b.dir
	var problem strings.Builder
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(problem.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// Build builds the filter in a folder into out, build/NAME.wasm there if it is "", and
// returns where it is. What the tools say goes to log.
func Build(ctx context.Context, dir, out string, log io.Writer) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	l, err := languageOf(dir)
	if err != nil {
		return "", err
	}
	if err := l.check(); err != nil {
		return "", err
	}
	if out, err = filepath.Abs(cmp.Or(out, filepath.Join(dir, "build", filepath.Base(dir)+".wasm"))); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", err
	}
	if err := l.build(ctx, &builder{dir, out, log}); err != nil {
		return "", err
	}
	return out, nil
}

// New makes the folder of a new filter in a language. There must be nothing in it.
func New(name, dir string) error {
	i := slices.IndexFunc(languages(), func(l *language) bool { return l.name == name })
	if i < 0 {
		return fmt.Errorf("the languages are %s, not %q", strings.Join(Languages(), ", "), name)
	}
	l := languages()[i]
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	filter := filepath.Base(dir)
	if strings.Trim(filter, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.Trim(filter[:1], "0123456789-") == "" {
		return fmt.Errorf("the folder's name is the filter's: it has lower-case letters, digits and hyphens, and begins with a letter, unlike %q", filter)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty", dir)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	words := strings.NewReplacer("{{.Name}}", filter, "{{.Language}}", l.title)
	files := map[string]string{"README.md": "README.md.txt", ".gitignore": "gitignore.txt", "dialogues/filter.txt": "dialogues.txt"}
	for path, template := range l.templates {
		files[path] = l.name + "/" + template
	}
	for path, template := range files {
		text, err := templates.ReadFile("templates/" + template)
		if err != nil {
			return err
		}
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(words.Replace(string(text))), 0o644); err != nil {
			return err
		}
	}
	return nil
}
