package idempotency

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// disk is a Store in a file, which survives a crash of the process and of the machine.
type disk struct {
	db    *bolt.DB
	limit int64 // bytes of the file
	stop  chan struct{}
	swept chan struct{}
}

// The buckets: records by key, and keys by when they are forgotten.
var (
	records = []byte("records")
	expiry  = []byte("expiry")
)

// openWait is how long another process may hold the file.
const openWait = 2 * time.Second

func openDisk(path string, limit int64) (*disk, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: openWait, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	db.MaxBatchDelay = time.Millisecond // what comes together is written together
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{records, expiry} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = db.Close() // the first error says more
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d := &disk{db: db, limit: limit, stop: make(chan struct{}), swept: make(chan struct{})}
	go d.sweep()
	return d, nil
}

func (d *disk) close() {
	close(d.stop)
	<-d.swept
	_ = d.db.Close() // everything that was settled is on the disk
}

// Claim implements Store.
func (d *disk) Claim(_ context.Context, k Key, r Record) (Record, error) {
	var found Record
	err := d.db.Batch(func(tx *bolt.Tx) error {
		found = Record{}
		if raw := tx.Bucket(records).Get(k[:]); raw != nil {
			if err := json.Unmarshal(raw, &found); err != nil {
				return err
			}
			if time.Now().Before(found.Until) {
				found = abandoned(found)
				return nil
			}
			if err := forget(tx, k, found.Until); err != nil {
				return err
			}
		}
		if tx.Size() > d.limit {
			return errFull
		}
		found = r
		found.State = Fresh
		return put(tx, k, r)
	})
	return found, err
}

// Settle implements Store.
func (d *disk) Settle(_ context.Context, k Key, r Record) error {
	return d.db.Batch(func(tx *bolt.Tx) error {
		if raw := tx.Bucket(records).Get(k[:]); raw != nil {
			var old Record
			if err := json.Unmarshal(raw, &old); err == nil && !old.Until.Equal(r.Until) {
				if err := forget(tx, k, old.Until); err != nil {
					return err
				}
			}
		}
		return put(tx, k, r)
	})
}

// Forget implements Store.
func (d *disk) Forget(_ context.Context, k Key, _ string) error {
	return d.db.Batch(func(tx *bolt.Tx) error {
		var old Record
		if raw := tx.Bucket(records).Get(k[:]); raw == nil || json.Unmarshal(raw, &old) != nil {
			return nil
		}
		return forget(tx, k, old.Until)
	})
}

func put(tx *bolt.Tx, k Key, r Record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := tx.Bucket(expiry).Put(expiryKey(r.Until, k), nil); err != nil {
		return err
	}
	return tx.Bucket(records).Put(k[:], raw)
}

func forget(tx *bolt.Tx, k Key, until time.Time) error {
	if err := tx.Bucket(expiry).Delete(expiryKey(until, k)); err != nil {
		return err
	}
	return tx.Bucket(records).Delete(k[:])
}

// expiryKey sorts by time.
func expiryKey(until time.Time, k Key) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(until.UnixNano())), k[:]...)
}

// sweepEvery is how often, and sweepMost how many at a time, what is over is removed.
const (
	sweepEvery = time.Minute
	sweepMost  = 1000
)

func (d *disk) sweep() {
	defer close(d.swept)
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-d.stop:
			return
		case now := <-t.C:
			for d.sweepSome(now) == sweepMost {
			}
		}
	}
}

// sweepSome removes records that are over, and returns how many.
func (d *disk) sweepSome(now time.Time) (n int) {
	err := d.db.Update(func(tx *bolt.Tx) error {
		n = 0
		c := tx.Bucket(expiry).Cursor()
		for at, _ := c.First(); at != nil && n < sweepMost; at, _ = c.First() {
			if len(at) < 8 || binary.BigEndian.Uint64(at) > uint64(now.UnixNano()) {
				return nil
			}
			if err := tx.Bucket(records).Delete(at[8:]); err != nil {
				return err
			}
			if err := c.Delete(); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		return 0 // the next claim meets it, and says so
	}
	return n
}
