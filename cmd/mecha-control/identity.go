package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mecha-mesh/mecha/xds/control"
	"github.com/mecha-mesh/mecha/xds/control/ca"
)

// identityFlags are those of serve about identities of workloads.
type identityFlags struct {
	dir, trustDomain, tokens string
	ttl, rootTTL, overlap    time.Duration
	uids, sockets            []string
}

func (f *identityFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.dir, "identity", "", "directory of the certificate authority, for the owner alone; without it no identities are served")
	fl.StringVar(&f.trustDomain, "trust-domain", "cluster.local", "trust domain of all identities: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")
	fl.DurationVar(&f.ttl, "cert-ttl", 6*time.Hour, "life of a workload's certificate, which is renewed half way")
	fl.DurationVar(&f.rootTTL, "root-ttl", 365*24*time.Hour, "life of a root, which is replaced with a fifth of it left")
	fl.DurationVar(&f.overlap, "root-overlap", 0, "how long a new root is known before it signs; 0 is as long as certificates live")
	fl.StringArrayVar(&f.sockets, "workload-socket", nil, "NAMESPACE/SERVICE-ACCOUNT=unix:PATH, a socket for that workload alone; may be repeated")
	fl.StringArrayVar(&f.uids, "workload-uid", nil, "NAMESPACE/SERVICE-ACCOUNT=UID, a workload known by its user on a unix socket; may be repeated")
	fl.StringVar(&f.tokens, "workload-tokens", "", "directory with files NAMESPACE/SERVICE-ACCOUNT, each with the bearer token of that workload")
}

// options returns nil where no identities are to be served.
func (f *identityFlags) options() (*control.Identity, error) {
	if f.dir == "" {
		if f.tokens != "" || len(f.uids)+len(f.sockets) > 0 {
			return nil, errors.New("--workload-socket, --workload-uid and --workload-tokens need --identity")
		}
		return nil, nil
	}
	o := &control.Identity{
		CA:     ca.Options{Dir: f.dir, TrustDomain: f.trustDomain, TTL: f.ttl, RootTTL: f.rootTTL, Overlap: f.overlap},
		Tokens: f.tokens, UIDs: map[uint32]ca.Identity{}, Sockets: map[string]ca.Identity{},
	}
	for _, s := range f.uids {
		id, value, err := workloadFlag("workload-uid", s)
		if err != nil {
			return nil, err
		}
		uid, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--workload-uid %q: %q is no number of a user", s, value)
		}
		if other, twice := o.UIDs[uint32(uid)]; twice && other != id {
			return nil, fmt.Errorf("--workload-uid %q: user %d is %s already", s, uid, other)
		}
		o.UIDs[uint32(uid)] = id
	}
	for _, s := range f.sockets {
		id, value, err := workloadFlag("workload-socket", s)
		if err != nil {
			return nil, err
		}
		if other, twice := o.Sockets[value]; twice && other != id {
			return nil, fmt.Errorf("--workload-socket %q: the socket is that of %s already", s, other)
		}
		o.Sockets[value] = id
	}
	return o, nil
}

func workloadFlag(flag, s string) (id ca.Identity, value string, err error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return id, "", fmt.Errorf("--%s %q: expected NAMESPACE/SERVICE-ACCOUNT=VALUE", flag, s)
	}
	if id, err = ca.ParseIdentity(name); err != nil {
		return id, "", fmt.Errorf("--%s %q: %w", flag, s, err)
	}
	return id, value, nil
}

func newIdentity() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "identity",
		Short: "Look after the certificate authority of the mesh",
		Long: `identity looks after what "serve --identity DIR" hands out certificates with. A server
that runs sees at once what these commands change.`,
	}
	cmd.AddCommand(newRotateRoot(), newRoots(), newToken())
	return cmd
}

// openAuthority reads what a server has stored.
func openAuthority(o ca.Options) (*ca.Authority, error) {
	if _, err := os.Stat(o.Dir); err != nil {
		return nil, err
	}
	return ca.Open(o)
}

func newRotateRoot() *cobra.Command {
	var dir, trustDomain string
	var rootTTL time.Duration
	cmd := &cobra.Command{
		Use:   "rotate-root --identity DIR",
		Short: "Replace the root while everybody goes on trusting everybody",
		Long: `rotate-root makes a new root. Workloads trust it beside the one before from now on; it
signs once the longest certificate's life has passed, and the one before is trusted
until the last certificate that it signed has expired.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := openAuthority(ca.Options{Dir: dir, TrustDomain: trustDomain, RootTTL: rootTTL})
			if err != nil {
				return err
			}
			if err := a.RotateRoot(); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "There is a new root. It signs from %s on.\n", a.SignsFrom().UTC().Format(time.RFC3339))
			return nil
		},
	}
	authorityFlags(cmd, &dir, &trustDomain)
	cmd.Flags().DurationVar(&rootTTL, "root-ttl", 365*24*time.Hour, "life of the new root, as that of serve")
	return cmd
}

func newRoots() *cobra.Command {
	var dir, trustDomain string
	cmd := &cobra.Command{
		Use:   "roots --identity DIR",
		Short: "Print the roots that are trusted now, in PEM",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := openAuthority(ca.Options{Dir: dir, TrustDomain: trustDomain})
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(a.Bundle())
			return err
		},
	}
	authorityFlags(cmd, &dir, &trustDomain)
	return cmd
}

func authorityFlags(cmd *cobra.Command, dir, trustDomain *string) {
	cmd.Flags().StringVar(dir, "identity", "", "directory of the certificate authority (required)")
	cmd.Flags().StringVar(trustDomain, "trust-domain", "cluster.local", "trust domain of the identities")
	if err := cmd.MarkFlagRequired("identity"); err != nil {
		panic(err) // the flag is defined above
	}
}

func newToken() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "token --workload-tokens DIR NAMESPACE/SERVICE-ACCOUNT",
		Short: "Make the token by which a workload shows who it is",
		Long: `token writes a new random token to DIR/NAMESPACE/SERVICE-ACCOUNT, for its owner alone, in
the place of the one before. Give a copy to the workload and to nobody else.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := ca.ParseIdentity(args[0])
			if err != nil {
				return err
			}
			path := filepath.Join(dir, id.Namespace, id.ServiceAccount)
			if err := writeToken(path); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), path)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "workload-tokens", "", "directory of tokens (required)")
	if err := cmd.MarkFlagRequired("workload-tokens"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func writeToken(path string) error {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(filepath.Dir(path)), ".token-*") // 0600, and not where tokens are looked for
	if err != nil {
		return err
	}
	_, err = f.WriteString(base64.RawURLEncoding.EncodeToString(b) + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use
	}
	return err
}
