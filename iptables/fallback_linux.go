package iptables

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// command runs one of the iptables programs and returns what it printed.
func command(stdin, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("iptables: %s: %w", name, err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errText bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errText
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("iptables: %s: %w: %s", name, err, strings.TrimSpace(errText.String()))
	}
	return out.String(), nil
}

// restoreFamilies lists the families to program: IPv6 is skipped where the
// network namespace does not speak it, because ip6tables fails there.
func (rs *Ruleset) restoreFamilies() []int {
	var out []int
	for _, f := range rs.families() {
		if f == 4 || hasIPv6() {
			out = append(out, f)
		}
	}
	return out
}

func saveCommand(family int) string {
	if family == 6 {
		return "ip6tables-save"
	}
	return "iptables-save"
}

// ours picks from iptables-save output the lines about our chains, per table.
func ours(saved string) map[string][]string {
	out := make(map[string][]string)
	table := ""
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, "-A ") && strings.Contains(line, chainPrefix):
			out[table] = append(out[table], line)
		case strings.HasPrefix(line, ":"+chainPrefix):
			name, _, _ := strings.Cut(line, " ")
			out[table] = append(out[table], name)
		}
	}
	return out
}

func applyRestore(rs *Ruleset) error {
	for _, family := range rs.restoreFamilies() {
		saved, err := command("", saveCommand(family))
		if err != nil {
			return err
		}
		// Chains of an earlier plan that this one does not have would stay
		// reachable; removing everything first leaves a moment without rules,
		// so that is done only when the chains differ.
		if !rs.sameRestoreChains(saved) {
			if err := removeRestore(family, saved); err != nil {
				return err
			}
			saved = ""
		}
		fresh := len(ours(saved)) == 0
		if _, err := command(rs.Restore(family, fresh), restoreCommand(family), "--noflush", "--wait"); err != nil {
			return err
		}
	}
	return nil
}

// sameRestoreChains reports whether the saved rules have exactly the plan's
// chains and jumps, or nothing of ours.
func (rs *Ruleset) sameRestoreChains(saved string) bool {
	have := make(map[string]bool)
	for table, lines := range ours(saved) {
		for _, l := range lines {
			if strings.HasPrefix(l, ":") || !strings.HasPrefix(l, "-A "+chainPrefix) {
				have[table+" "+l] = true
			}
		}
	}
	if len(have) == 0 {
		return true
	}
	n := 0
	for _, ch := range rs.Chains {
		n++
		if !have[ch.Table+" :"+restoreName(ch.Name)] {
			return false
		}
		if ch.Hook != "" {
			n++
			if !have[ch.Table+" -A "+ch.hookChain()+" "+ch.restoreJump()] {
				return false
			}
		}
	}
	return n == len(have)
}

func verifyRestore(rs *Ruleset) (diff []string, found bool, err error) {
	for _, family := range rs.restoreFamilies() {
		saved, err := command("", saveCommand(family))
		if err != nil {
			return nil, false, err
		}
		have := ours(saved)
		if len(have) > 0 {
			found = true
		}
		for _, ch := range rs.Chains {
			want := ch.restore(family)
			if ch.Hook != "" && !contains(have[ch.Table], "-A "+ch.hookChain()+" "+ch.restoreJump()) {
				diff = append(diff, fmt.Sprintf("IPv%d %s: jump to %s missing", family, ch.hookChain(), restoreName(ch.Name)))
			}
			var got []string
			for _, l := range have[ch.Table] {
				if strings.HasPrefix(l, "-A "+restoreName(ch.Name)+" ") {
					got = append(got, l)
				}
			}
			for i := range max(len(want), len(got)) {
				switch {
				case i >= len(got):
					diff = append(diff, fmt.Sprintf("IPv%d rule missing: %s", family, want[i]))
				case i >= len(want):
					diff = append(diff, fmt.Sprintf("IPv%d rule is not in the plan: %s", family, got[i]))
				case want[i] != got[i]:
					diff = append(diff, fmt.Sprintf("IPv%d rule was changed: %s; planned: %s", family, got[i], want[i]))
				}
			}
		}
	}
	return diff, found, nil
}

func contains(lines []string, want string) bool {
	for _, l := range lines {
		if l == want {
			return true
		}
	}
	return false
}

// removeRestore deletes what of ours the saved rules show, in one transaction
// per table.
func removeRestore(family int, saved string) error {
	var b strings.Builder
	for table, lines := range ours(saved) {
		fmt.Fprintf(&b, "*%s\n", table)
		var flush, remove strings.Builder
		for _, l := range lines {
			switch {
			case strings.HasPrefix(l, ":"):
				fmt.Fprintf(&flush, "-F %s\n", l[1:])
				fmt.Fprintf(&remove, "-X %s\n", l[1:])
			case !strings.HasPrefix(l, "-A "+chainPrefix):
				b.WriteString("-D " + strings.TrimPrefix(l, "-A ") + "\n")
			}
		}
		b.WriteString(flush.String() + remove.String() + "COMMIT\n")
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := command(b.String(), restoreCommand(family), "--noflush", "--wait")
	return err
}

// undoRestore removes our chains in both families. Programs that are not
// installed cannot have added any.
func undoRestore() error {
	var errs []error
	for _, family := range []int{4, 6} {
		saved, err := command("", saveCommand(family))
		if err != nil {
			if !errors.Is(err, exec.ErrNotFound) && (family == 4 || hasIPv6()) {
				errs = append(errs, err)
			}
			continue
		}
		errs = append(errs, removeRestore(family, saved))
	}
	return errors.Join(errs...)
}
