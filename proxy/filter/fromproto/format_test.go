package fromproto

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// TestOnlyRegularFiles: a pipe that nobody writes, and a directory, are refused and not
// waited for; links are followed.
func TestOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	pipe, file, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		pipe: "is not a regular file", dir: "is not a regular file", filepath.Join(dir, "none"): "no such file", file: "", link: "",
	} {
		text, err := Bytes(&corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}, 4)
		if want == "" && (err != nil || text != "text") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v, want %q", path, text, err, want)
		}
	}
	if _, err := Bytes(&corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: file}}, 3); err == nil {
		t.Error("a file that is too large was read")
	}
}
