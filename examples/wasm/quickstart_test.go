package wasm_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestQuickStart follows docs/wasm.md word for word: what its blocks of sh say is run, one
// after the other in one shell, and the lines of its blocks of text are in the output.
func TestQuickStart(t *testing.T) {
	mecha := needTools(t)
	for _, address := range []string{"127.0.0.1:8080", "127.0.0.1:9901"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Skipf("the quick start uses %s: %v", address, err)
		}
		_ = l.Close() // it was only looked at
	}
	document, err := os.ReadFile("../../docs/wasm.md")
	if err != nil {
		t.Fatal(err)
	}
	script, expected := "set -e\n"+strings.Join(blocks(string(document), "sh"), "\n"), blocks(string(document), "text")
	if len(expected) == 0 {
		t.Fatal("the document says nothing of what is to be seen")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "MECHA_ENVOY=", "PATH="+filepath.Dir(mecha)+string(os.PathListSeparator)+os.Getenv("PATH"))
	var out bytes.Buffer // written to by nobody else once Run has returned
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 15 * time.Second
	// What the script has put into the background ends with the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	defer func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // it has ended already if all went well
		}
	}()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	said := strings.ReplaceAll(out.String(), "\r\n", "\n")
	for _, block := range expected {
		for line := range strings.Lines(block) {
			if !strings.Contains(said, line) {
				t.Errorf("nothing says %q:\n%s", line, said)
			}
		}
	}
}

// blocks are the fenced blocks of one kind.
func blocks(document, kind string) (out []string) {
	for _, part := range strings.Split(document, "\n```"+kind+"\n")[1:] {
		text, _, _ := strings.Cut(part, "```")
		out = append(out, text)
	}
	return out
}
