package iptables

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Backend is the way rules reach the kernel.
type Backend string

const (
	// NFTables is netlink, without any other program. It needs Linux 5.2
	// (NAT in the inet family).
	NFTables Backend = "nftables"
	// IPTables is the iptables-restore and ip6tables-restore programs.
	IPTables Backend = "iptables"
	// Auto is NFTables where the kernel accepts it, IPTables elsewhere.
	Auto Backend = ""
)

// ErrPrivilege is wrapped by errors of Apply, Verify, Undo and SelfTest that
// come from missing rights: they need CAP_NET_ADMIN over the network namespace.
var ErrPrivilege = errors.New("CAP_NET_ADMIN over this network namespace is needed")

// ErrMissing is the error of a Verify that found no rules at all.
var ErrMissing = errors.New("iptables: no capture rules in this network namespace")

// Applied says what Apply did.
type Applied struct {
	Backend Backend
	// Changed is false when the kernel held exactly these rules already; they
	// keep their counters then.
	Changed bool
}

// Apply makes the kernel hold rs and nothing else of ours in the network
// namespace of the calling thread. Applying twice changes nothing. nftables
// rules are replaced in one transaction, so that no packet meets half a rule
// set; connections that exist keep their way. If Apply fails, rules that were
// there before are still there, except that with iptables one table or one
// address family may have been replaced already.
func Apply(rs *Ruleset, with Backend) (Applied, error) {
	if diff, on, err := verify(rs, with); err == nil && len(diff) == 0 {
		return Applied{Backend: on}, nil
	}
	if err := errors.Join(applyPassthrough(rs), applyRouting(rs)); err != nil {
		return Applied{}, privilege(err)
	}
	var nftErr error
	if with != IPTables {
		if nftErr = applyNFT(rs); nftErr == nil {
			return Applied{NFTables, true}, nil
		}
		if with == NFTables || errors.Is(nftErr, fs.ErrPermission) {
			return Applied{}, withdraw(rs, nftErr)
		}
	}
	if err := applyRestore(rs); err != nil {
		if nftErr != nil {
			err = fmt.Errorf("%w; and the fallback: %w", nftErr, err)
		}
		return Applied{}, withdraw(rs, err)
	}
	return Applied{IPTables, true}, nil
}

// withdraw takes back what Apply added before its rules failed, unless an
// earlier rule set is in place that needs it.
func withdraw(rs *Ruleset, err error) error {
	if _, found, _ := verifyNFT(rs); !found {
		err = errors.Join(err, undoPassthrough())
		if rs.Routing != nil {
			err = errors.Join(err, undoRouting(*rs.Routing))
		}
	}
	return privilege(err)
}

// Verify compares the kernel with rs and returns one line for each difference,
// nil when there is none. With no rules of ours at all it fails with ErrMissing.
func Verify(rs *Ruleset) ([]string, error) {
	diff, _, err := verify(rs, Auto)
	return diff, err
}

func verify(rs *Ruleset, with Backend) (diff []string, on Backend, err error) {
	var found bool
	var nftErr error
	if with != IPTables {
		on = NFTables
		if diff, found, nftErr = verifyNFT(rs); nftErr != nil && (with == NFTables || errors.Is(nftErr, fs.ErrPermission)) {
			return nil, on, privilege(nftErr)
		}
	}
	if !found && with != NFTables {
		on = IPTables
		if diff, found, err = verifyRestore(rs); err != nil {
			if with == Auto && nftErr == nil {
				// nftables answered and has nothing; without iptables there is nothing either.
				return nil, NFTables, ErrMissing
			}
			return nil, on, privilege(errors.Join(nftErr, err))
		}
	}
	if !found {
		return nil, on, ErrMissing
	}
	routing, err := verifyRouting(rs)
	if err != nil {
		return nil, on, privilege(err)
	}
	address, err := verifyPassthrough(rs)
	if err != nil {
		return nil, on, privilege(err)
	}
	return slices.Concat(diff, routing, address), on, nil
}

// Undo removes every rule, chain, table and route of ours. routing names the
// policy routing to remove, normally that of the plan; the zero value means the
// default mark and table. Removing what is not there is no error.
func Undo(routing Routing) error {
	if routing == (Routing{}) {
		routing = Routing{Mark: DefaultTProxyMark, Table: DefaultRouteTable}
	}
	nftErr := undoNFT()
	if errors.Is(nftErr, fs.ErrPermission) {
		return privilege(nftErr)
	}
	if err := undoRestore(); err != nil {
		return privilege(errors.Join(nftErr, err))
	}
	// A kernel without nftables cannot hold rules of it, so nftErr is no failure.
	return privilege(errors.Join(undoRouting(routing), undoPassthrough()))
}

// privilege adds ErrPrivilege to permission errors.
func privilege(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (%w)", err, ErrPrivilege)
	}
	return err
}
