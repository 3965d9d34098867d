package idempotency

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/mecha-mesh/mecha/proxy/cluster"
)

// RedisSpec says which Redis keeps responses, for all proxies that name it.
type RedisSpec struct {
	Cluster  string // whose hosts are connected to; "" is Address
	Address  string // host:port
	Username string
	// Password is asked for with each connection; nil is none.
	Password func() (string, error)
	Database int
	Prefix   string        // of the keys
	Timeout  time.Duration // of one command, the connection included
	Lease    time.Duration // how long a claim lasts that its proxy does not renew
	Conns    int           // most connections
}

// remote is a Store in a Redis, which many processes have in common. A key is a hash:
//
//	state    "running", "done" or "unknown"
//	owner    of the claim
//	request  digest of the request, in hex
//	lease    of "running": until when, in milliseconds of Redis' clock
//	response of "done": a Response as JSON
//
// and Redis forgets it by itself.
type remote struct {
	spec   RedisSpec
	client *redis.Client
	ctx    context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup // renew
	begin  sync.Once      // with the first claim
	failed func()         // a renewal that did not work

	mu      sync.Mutex
	claims  map[Key]string // what this process has under way, and the owner
	orphans map[string]Key // by owner: claims of which nobody knows whether they are there, of requests that were not sent
}

// maxOrphans bounds remote.orphans. What is more becomes Unknown when its lease ends.
const maxOrphans = 4096

// The scripts are atomic, and come to the same when they are run twice, since who has lost an
// answer asks again. Time is Redis' own: proxies need not agree on theirs.
var (
	// KEYS: key. ARGV: owner, request, lease in ms, time to live in ms.
	claimScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'running' then
	if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then return {'fresh'} end
	if tonumber(redis.call('HGET', KEYS[1], 'lease')) < now then
		state = 'unknown'
		redis.call('HSET', KEYS[1], 'state', state)
	end
end
if state then
	return {state, redis.call('HGET', KEYS[1], 'request'), redis.call('HGET', KEYS[1], 'response') or ''}
end
redis.call('HSET', KEYS[1], 'state', 'running', 'owner', ARGV[1], 'request', ARGV[2], 'lease', now + ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {'fresh'}`)

	// ARGV: owner, lease in ms. Only a claim that is still the caller's is renewed, also one
	// that others have taken for lost.
	renewScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'state') == 'done' then return 0 end
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'state', 'running', 'lease', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2])
return 1`)

	// ARGV: owner, state, response, request, time to live in ms. A key that Redis has lost is
	// made again, one that is another's by now is not touched.
	settleScript = redis.NewScript(`
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'owner', ARGV[1], 'request', ARGV[4], 'response', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1`)

	// ARGV: owner.
	forgetScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1`)
)

// errTaken is the end of who settles a claim that is another's by now.
var errTaken = errors.New("the claim is another's by now")

// openRedis connects to nobody yet: a Redis that is away is found out by who needs it.
func openRedis(spec RedisSpec, clusters cluster.Source, failed func()) *remote {
	logging.Disable() // of the library, to stderr: what goes wrong comes back as an error
	ctx, cancel := context.WithCancel(context.Background())
	r := &remote{spec: spec, ctx: ctx, stop: cancel, failed: failed, claims: map[Key]string{}, orphans: map[string]Key{}}
	r.client = redis.NewClient(&redis.Options{
		Addr:   spec.Address,
		Dialer: dialer(spec, clusters),
		CredentialsProviderContext: func(context.Context) (string, string, error) {
			if spec.Password == nil {
				return spec.Username, "", nil
			}
			password, err := spec.Password()
			return spec.Username, password, err
		},
		DB: spec.Database, Protocol: 2, DisableIdentity: true,
		DialTimeout: spec.Timeout, ReadTimeout: spec.Timeout, WriteTimeout: spec.Timeout, PoolTimeout: spec.Timeout,
		ContextTimeoutEnabled: true, DialerRetries: 1, MaxRetries: 1, PoolSize: spec.Conns, MaxActiveConns: spec.Conns,
		ConnMaxIdleTime:          time.Minute,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	return r
}

// dialer connects to a host of the cluster, through its transport socket and within its limits,
// or to the address.
func dialer(spec RedisSpec, clusters cluster.Source) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, spec.Timeout)
		defer cancel()
		if spec.Cluster == "" {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
		var c *cluster.Cluster
		if clusters != nil {
			c = clusters.Cluster(spec.Cluster)
		}
		if c == nil {
			return nil, fmt.Errorf("there is no cluster %q", spec.Cluster)
		}
		at := &cluster.Attempt{}
		h, err := c.Pick(at)
		if err != nil {
			return nil, fmt.Errorf("cluster %q: %w", spec.Cluster, err)
		}
		conn, err := c.Dial(ctx, h, at)
		if err != nil {
			return nil, fmt.Errorf("cluster %q: %w", spec.Cluster, err)
		}
		return &dialled{TCPConn: conn}, nil
	}
}

// dialled is a connection of a cluster as package redis uses it: it may be closed while it is
// used, and more than once.
type dialled struct {
	*cluster.TCPConn
	once sync.Once
}

// Close implements net.Conn.
func (d *dialled) Close() (err error) {
	d.once.Do(func() { err = d.TCPConn.Close() })
	return err
}

var _ net.Conn = (*dialled)(nil)

func (r *remote) close() {
	r.stop()
	r.work.Wait()
	_ = r.client.Close() // nothing is under way that somebody waits for
}

func (r *remote) key(k Key) []string { return []string{r.spec.Prefix + hex.EncodeToString(k[:])} }

// Claim implements Store. A claim that fails may be there all the same: it is taken back when
// Redis answers again.
func (r *remote) Claim(ctx context.Context, k Key, rec Record) (Record, error) {
	r.begin.Do(func() { r.work.Go(r.renew) })
	found, err := r.claim(ctx, k, rec)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil && len(r.orphans) < maxOrphans:
		r.orphans[rec.Owner] = k
	case err == nil && found.State == Fresh:
		r.claims[k] = rec.Owner
	}
	return found, err
}

func (r *remote) claim(ctx context.Context, k Key, rec Record) (Record, error) {
	ctx, cancel := context.WithTimeout(ctx, r.spec.Timeout)
	defer cancel()
	got, err := claimScript.Run(ctx, r.client, r.key(k), rec.Owner, hex.EncodeToString(rec.Request[:]),
		r.spec.Lease.Milliseconds(), life(rec)).StringSlice()
	if err != nil {
		return Record{}, safe(err)
	}
	return decode(got, rec)
}

// decode reads what a claim has found. What is none of ours is an error: a Redis is anybody's.
func decode(got []string, own Record) (Record, error) {
	if len(got) == 1 && got[0] == "fresh" {
		own.State = Fresh
		return own, nil
	}
	if len(got) != 3 {
		return Record{}, errors.New("redis: the key holds something else")
	}
	found := Record{}
	if n, err := hex.Decode(found.Request[:], []byte(got[1])[:min(len(got[1]), 2*len(found.Request))]); err != nil || n != len(found.Request) {
		return Record{}, errors.New("redis: the key holds something else")
	}
	switch got[0] {
	case "running":
		found.State = Running
	case "unknown":
		found.State = Unknown
	case "done":
		found.State, found.Response = Done, &Response{}
		if err := json.Unmarshal([]byte(got[2]), found.Response); err != nil || found.Response.Code < 200 || found.Response.Code > 999 {
			return Record{}, errors.New("redis: the key holds no response")
		}
	default:
		return Record{}, errors.New("redis: the key holds something else")
	}
	return found, nil
}

// Settle implements Store.
func (r *remote) Settle(ctx context.Context, k Key, rec Record) error {
	defer r.drop(k)
	var text []byte
	state := "unknown"
	if rec.State == Done {
		var err error
		if text, err = json.Marshal(rec.Response); err != nil {
			return err
		}
		state = "done"
	}
	written, err := settleScript.Run(ctx, r.client, r.key(k), rec.Owner, state, text, hex.EncodeToString(rec.Request[:]), life(rec)).Int()
	if err == nil && written == 0 {
		return errTaken
	}
	return safe(err)
}

// Forget implements Store.
func (r *remote) Forget(ctx context.Context, k Key, owner string) error {
	defer r.drop(k)
	return safe(forgetScript.Run(ctx, r.client, r.key(k), owner).Err())
}

// life is how long a record lasts, in milliseconds.
func life(rec Record) string {
	return strconv.FormatInt(max(time.Until(rec.Until).Milliseconds(), 1), 10)
}

func (r *remote) drop(k Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.claims, k)
}

// under returns what is under way, and what is to be taken back.
func (r *remote) under() (claims map[Key]string, orphans map[string]Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.claims), maps.Clone(r.orphans)
}

// renew renews the claims of this process, three times before they would end.
func (r *remote) renew() {
	t := time.NewTicker(r.spec.Lease / 3)
	defer t.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
			r.renewAll(r.ctx)
		}
	}
}

// renewBatch is how many claims are renewed with one exchange.
const renewBatch = 256

func (r *remote) renewAll(ctx context.Context) {
	claims, orphans := r.under()
	p := r.client.Pipeline()
	for k, owner := range claims {
		renewScript.Eval(ctx, p, r.key(k), owner, r.spec.Lease.Milliseconds())
		if p.Len() >= renewBatch {
			r.send(ctx, p)
		}
	}
	r.send(ctx, p)
	for owner, k := range orphans {
		if forgetScript.Eval(ctx, p, r.key(k), owner); !r.send(ctx, p) {
			return
		}
		r.mu.Lock()
		delete(r.orphans, owner)
		r.mu.Unlock()
	}
}

// send runs what was gathered, and reports whether that worked.
func (r *remote) send(ctx context.Context, p redis.Pipeliner) bool {
	if p.Len() == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, r.spec.Timeout)
	defer cancel()
	_, err := p.Exec(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		r.failed()
	}
	return err == nil
}

// safe leaves out of an error what a Redis says of credentials.
func safe(err error) error {
	if err == nil {
		return nil
	}
	var refused redis.Error
	if errors.As(err, &refused) && redis.IsAuthError(err) {
		return errors.New("redis: the credentials are refused")
	}
	return err
}
