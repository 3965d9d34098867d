// Package lb is load balancing as arithmetic: rings, tables, schedules and shares of the
// load, over hosts that are numbers from 0 on. What a host is, and which of them are
// healthy, is not here: see proxy/cluster.
package lb

import "encoding/binary"

// stdSeed is the seed with which libstdc++ hashes strings, and Envoy its
// MURMUR_HASH_2 rings.
const stdSeed uint64 = 0xc70f6907

// Murmur2 is the 64-bit MurmurHash2 as libstdc++ has it: std::hash<std::string>.
func Murmur2(s []byte) uint64 {
	const mul uint64 = 0xc6a4a7935bd1e995
	mix := func(v uint64) uint64 { return v ^ v>>47 }
	h := stdSeed ^ uint64(len(s))*mul
	for ; len(s) >= 8; s = s[8:] {
		h = (h ^ mix(binary.LittleEndian.Uint64(s)*mul)*mul) * mul
	}
	if len(s) > 0 {
		var rest [8]byte
		copy(rest[:], s)
		h = (h ^ binary.LittleEndian.Uint64(rest[:])) * mul
	}
	return mix(mix(h) * mul)
}
