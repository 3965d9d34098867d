package accesslog

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

func TestSetWritesToEveryLogThatTheFilterLetsPass(t *testing.T) {
	dir := t.TempDir()
	text := func(s string) *Format {
		f, err := Compile(s)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	all, errs := filepath.Join(dir, "all"), filepath.Join(dir, "errors")
	files := NewFiles(FileOptions{}, nil)
	set, err := OpenSet([]Spec{
		{Path: all, Format: text("%RESPONSE_CODE%\n")},
		{Path: errs, Format: text("%RESPONSE_CODE%!\n"), Filter: StatusCode{AtLeast, 500}},
	}, files)
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{200, 503} {
		set.Log(&Entry{Stream: &meta.Stream{Code: code}})
	}
	if err := files.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{all: "200\n503\n", errs: "503!\n"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s has %q (%v), want %q", filepath.Base(path), got, err, want)
		}
	}
	set.Close()
}

func TestOpenSetNamesTheEntryThatCannotBeOpened(t *testing.T) {
	files := NewFiles(FileOptions{}, nil)
	defer files.Close(context.Background())
	ok := filepath.Join(t.TempDir(), "ok")
	_, err := OpenSet([]Spec{{Path: ok}, {Path: "/no/such/dir/log"}}, files)
	if err == nil || !strings.Contains(err.Error(), "access_log[1]") {
		t.Fatalf("error %v, want one that names access_log[1]", err)
	}
	if n := len(files.byPath); n != 0 {
		t.Errorf("%d files stayed open", n)
	}
}

func TestNoLogsIsNil(t *testing.T) {
	set, err := OpenSet(nil, nil)
	if set != nil || err != nil {
		t.Fatalf("OpenSet(nil) = %v, %v", set, err)
	}
	set.Log(&Entry{})
	set.Close()
}
