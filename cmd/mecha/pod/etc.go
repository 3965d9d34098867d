package pod

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// etc gives the pod its own resolv.conf, hosts and nsswitch.conf. The files live in a tmpfs
// that no path leads to any more, so nothing is left on any disk.
func (p *podInit) etc() error {
	// Any directory will do as a mount point for a moment: nobody else is in
	// this mount namespace yet.
	const stage = "/tmp"
	if err := unix.Mount("mecha", stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m,mode=0755"); err != nil {
		return fmt.Errorf("pod: mount tmpfs: %w", err)
	}
	defer unix.Unmount(stage, unix.MNT_DETACH) //nolint:errcheck // our own mount
	gw, _ := p.place.Net.gateway()
	resolv := "nameserver " + gw.String() + "\n" + keepOptions("/etc/resolv.conf")
	hosts := "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
	if p.setup.Name != "" {
		hosts += p.place.V4.String() + " " + p.setup.Name + "\n"
	}
	const services = "/etc/nsswitch.conf"
	nsswitch, err := os.ReadFile(services)
	if err != nil {
		nsswitch = nil // not there: the C library asks DNS
	}
	for target, content := range map[string]string{"/etc/resolv.conf": resolv, "/etc/hosts": hosts, services: onlyDNS(nsswitch)} {
		// Without such a file on the host there is nothing to cover.
		real, err := filepath.EvalSymlinks(target)
		if err != nil {
			continue
		}
		src := filepath.Join(stage, filepath.Base(target))
		if err := os.WriteFile(src, []byte(content), 0o644); err != nil {
			return fmt.Errorf("pod: %w", err)
		}
		if err := unix.Mount(src, real, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pod: cover %s: %w", real, err)
		}
	}
	return nil
}

// onlyDNS is an nsswitch.conf whose host names come from hosts and resolv.conf
// only. Others, such as systemd-resolved, are services of this machine behind unix
// sockets, which a pod can reach and which know nothing of its names.
func onlyDNS(nsswitch []byte) string {
	var out strings.Builder
	for line := range strings.Lines(string(nsswitch)) {
		if strings.HasPrefix(strings.TrimSpace(line), "hosts:") {
			line = "hosts: files dns\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

// keepOptions returns the lines of a resolv.conf that do not name servers.
func keepOptions(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var out strings.Builder
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) > 1 && (f[0] == "search" || f[0] == "options") {
			out.WriteString(s.Text() + "\n")
		}
	}
	return out.String()
}
