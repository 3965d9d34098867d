package compressor

import (
	"fmt"

	"github.com/andybalholm/brotli"
	brotliv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/brotli/compressor/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/compressor/v3"
	zstdv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/zstd/compressor/v3"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// What the fields that are ignored would change is how much memory and time the encoders
// of C take, never what the other side reads.

// gzipLibrary decodes envoy.extensions.compression.gzip.compressor.v3.Gzip.
func gzipLibrary(raw []byte, p *filter.Parser) (*Library, error) {
	var pb gzipv3.Gzip
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used:    []string{"compression_level", "compression_strategy"},
		Ignored: []string{"memory_level", "window_bits", "chunk_size"},
	})
	if err != nil {
		return nil, err
	}
	level := int(pb.CompressionLevel)
	if level == 0 {
		level = gzip.DefaultCompression
	}
	switch pb.CompressionStrategy {
	case gzipv3.Gzip_DEFAULT_STRATEGY:
	case gzipv3.Gzip_HUFFMAN_ONLY:
		level = gzip.HuffmanOnly
	default:
		if p != nil {
			p.Warnings = append(p.Warnings, fmt.Sprintf("Gzip.compression_strategy %s has no effect in this build", pb.CompressionStrategy))
		}
	}
	if _, err := gzip.NewWriterLevel(nil, level); err != nil {
		return nil, filter.At("compression_level", err)
	}
	return &Library{Coding: "gzip", Stats: "gzip", Cost: 1200 << 10, fresh: func() writer {
		w, _ := gzip.NewWriterLevel(nil, level) // tried before
		return w
	}}, nil
}

// brotliMemory is what an encoder of a quality holds beside its window, in KB (measured).
var brotliMemory = [...]int64{230, 250, 520, 520, 800, 1300, 2300, 8500, 17000, 33000, 20000, 20000}

// brotliLibrary decodes envoy.extensions.compression.brotli.compressor.v3.Brotli.
func brotliLibrary(raw []byte, p *filter.Parser) (*Library, error) {
	var pb brotliv3.Brotli
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used:    []string{"quality", "window_bits"},
		Ignored: []string{"encoder_mode", "input_block_bits", "chunk_size", "disable_literal_context_modeling"},
	})
	if err != nil {
		return nil, err
	}
	o := brotli.WriterOptions{Quality: 3, LGWin: 18}
	if pb.Quality != nil {
		o.Quality = int(pb.Quality.Value)
	}
	if pb.WindowBits != nil {
		o.LGWin = int(pb.WindowBits.Value)
	}
	cost := brotliMemory[min(o.Quality, len(brotliMemory)-1)]<<10 + 2<<o.LGWin
	return &Library{Coding: "br", Stats: "brotli", Cost: cost, fresh: func() writer {
		return brotli.NewWriterOptions(nil, o)
	}}, nil
}

// maxDictionary is how large a dictionary may be, in bytes.
const maxDictionary = 4 << 20

// zstdMemory is what an encoder of a level holds, in KB (measured).
var zstdMemory = map[zstd.EncoderLevel]int64{
	zstd.SpeedFastest: 600, zstd.SpeedDefault: 2100, zstd.SpeedBetterCompression: 5000, zstd.SpeedBestCompression: 36000,
}

// zstdWindow bounds how far back an encoder looks, in bytes: what it holds depends on it.
const zstdWindow = 512 << 10

// zstdLibrary decodes envoy.extensions.compression.zstd.compressor.v3.Zstd.
func zstdLibrary(raw []byte, p *filter.Parser) (*Library, error) {
	var pb zstdv3.Zstd
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used:    []string{"compression_level", "enable_checksum", "dictionary"},
		Ignored: []string{"strategy", "chunk_size"},
	})
	if err != nil {
		return nil, err
	}
	level := zstd.SpeedDefault
	if pb.CompressionLevel != nil {
		level = zstd.EncoderLevelFromZstd(int(pb.CompressionLevel.Value))
	}
	options := []zstd.EOption{
		zstd.WithEncoderLevel(level), zstd.WithEncoderCRC(pb.EnableChecksum), zstd.WithWindowSize(zstdWindow),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true),
	}
	if pb.Dictionary != nil {
		d, err := fromproto.Bytes(pb.Dictionary, maxDictionary)
		if err != nil {
			return nil, filter.At("dictionary", err)
		}
		options = append(options, zstd.WithEncoderDict([]byte(d)))
	}
	if _, err := zstd.NewWriter(nil, options...); err != nil {
		return nil, filter.At("dictionary", err)
	}
	return &Library{Coding: "zstd", Stats: "zstd", Cost: zstdMemory[level] << 10, fresh: func() writer {
		w, _ := zstd.NewWriter(nil, options...) // tried before
		return w
	}}, nil
}
