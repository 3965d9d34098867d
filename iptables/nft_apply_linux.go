package iptables

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
)

// One transaction is one message, and the kernel acknowledges and echoes each
// rule of it before the first answer is read.
const (
	transactionBuffer = 1 << 20
	answerBuffer      = 8 << 20
)

// nftConn opens nftables in the network namespace of the calling thread.
func nftConn() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(answerBuffer), c.SetWriteBuffer(transactionBuffer))
	}))
	if err != nil {
		return nil, fmt.Errorf("iptables: open nftables: %w", err)
	}
	return c, nil
}

func applyNFT(rs *Ruleset) error {
	c, err := nftConn()
	if err != nil {
		return err
	}
	defer c.CloseLasting() //nolint:errcheck // nothing is lost: the transaction is over
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	// Add, delete, add: deleting a table that is not there would fail the batch.
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	chains := make(map[string]*nftables.Chain, len(rs.Chains))
	for _, ch := range rs.Chains {
		chains[ch.Name] = c.AddChain(ch.kernel(table))
	}
	for _, ch := range rs.Chains {
		for _, r := range ch.Rules {
			c.AddRule(&nftables.Rule{
				Table: table, Chain: chains[ch.Name], Exprs: r.exprs(),
				UserData: userdata.AppendString(nil, userdata.TypeComment, r.Why),
			})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("iptables: nftables transaction refused, nothing was changed: %w", err)
	}
	return nil
}

func (ch Chain) kernel(table *nftables.Table) *nftables.Chain {
	k := &nftables.Chain{Name: ch.Name, Table: table}
	if ch.Hook == "" {
		return k
	}
	typ, prio := ch.nftType()
	k.Type, k.Priority = nftables.ChainType(typ), nftables.ChainPriorityRef(nftables.ChainPriority(prio))
	k.Hooknum = nftables.ChainHookPrerouting
	if ch.Hook == "output" {
		k.Hooknum = nftables.ChainHookOutput
	}
	accept := nftables.ChainPolicyAccept
	k.Policy = &accept
	return k
}

func undoNFT() error {
	c, err := nftConn()
	if err != nil {
		return err
	}
	defer c.CloseLasting() //nolint:errcheck // nothing is lost: the transaction is over
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	c.AddTable(table)
	c.DelTable(table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("iptables: delete nftables table inet %s: %w", tableName, err)
	}
	return nil
}
