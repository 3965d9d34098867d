package pod

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func TestExplainSaysWhatToDo(t *testing.T) {
	sys := func(name, value string) fstest.MapFS {
		return fstest.MapFS{name: &fstest.MapFile{Data: []byte(value + "\n")}}
	}
	for _, tc := range []struct {
		name  string
		step  string
		cause error
		sys   fstest.MapFS
		root  bool
		want  []string
	}{
		{"switched off", stepNamespaces, unix.ENOSPC, sys("user/max_user_namespaces", "0"), false, []string{"sysctl -w user.max_user_namespaces", "as root"}},
		{"debian", stepNamespaces, unix.EPERM, sys("kernel/unprivileged_userns_clone", "0"), false, []string{"kernel.unprivileged_userns_clone=1", "as root"}},
		{"ubuntu", stepNamespaces, unix.EPERM, sys("kernel/apparmor_restrict_unprivileged_userns", "1"), false, []string{"AppArmor", "apparmor_restrict_unprivileged_userns=0"}},
		{"ubuntu, noticed late", stepBridge, unix.EPERM, sys("kernel/apparmor_restrict_unprivileged_userns", "1"), false, []string{"AppArmor"}},
		{"container", stepNamespaces, unix.EPERM, nil, false, []string{"seccomp", "--privileged", "as root"}},
		{"container, root", stepNamespaces, unix.EPERM, nil, true, []string{"seccomp", "--privileged"}},
		{"too many", stepNamespaces, unix.ENOSPC, nil, true, []string{"limit of namespaces"}},
		{"not built in", stepNamespaces, unix.EINVAL, nil, true, []string{"built without"}},
		{"no bridge", stepBridge, unix.EOPNOTSUPP, nil, true, []string{"modprobe bridge"}},
		{"no veth", stepVeth, unix.EOPNOTSUPP, nil, false, []string{"modprobe veth"}},
		{"no nftables", stepRules, unix.EPROTONOSUPPORT, nil, true, []string{"nftables", "modprobe"}},
		{"no rules", stepRules, unix.EPERM, nil, true, []string{"may not be configured"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := explain(tc.step, fmt.Errorf("wrapped: %w", tc.cause), tc.sys, tc.root)
			var no *Unsupported
			if !errors.As(err, &no) || !errors.Is(err, tc.cause) {
				t.Fatalf("not explained: %v", err)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is missing in:\n%v", w, err)
				}
			}
			if tc.root && strings.Contains(err.Error(), adviceRoot) {
				t.Errorf("root is told to be root:\n%v", err)
			}
		})
	}
	// Errors that are nobody's policy stay plain errors.
	var no *Unsupported
	if err := explain(stepVeth, unix.ENOMEM, nil, true); errors.As(err, &no) || !errors.Is(err, unix.ENOMEM) {
		t.Errorf("out of memory: %v", err)
	}
}
