//go:build !race

package compressor

import "github.com/mecha-mesh/mecha/proxy/buffer"

const raceOrInvariants = buffer.Invariants
