package h2

import (
	"encoding/binary"
	"fmt"
)

// frameHeaderLen is the length of a frame header (RFC 9113 4.1).
const frameHeaderLen = 9

// FrameType is the type of a frame (RFC 9113 6).
type FrameType uint8

// The types that are told apart; others are ignored.
const (
	FrameData FrameType = iota
	FrameHeaders
	FramePriority
	FrameRSTStream
	FrameSettings
	FramePushPromise
	FramePing
	FrameGoAway
	FrameWindowUpdate
	FrameContinuation
)

// frameMetadata is that of Envoy's METADATA, which we do not forward.
const frameMetadata FrameType = 0x4d

// Flags of frames.
const (
	FlagEndStream  = 0x1
	FlagAck        = 0x1
	FlagEndHeaders = 0x4
	FlagPadded     = 0x8
	FlagPriority   = 0x20
)

// FrameHeader is the header of a frame.
type FrameHeader struct {
	Length uint32
	Type   FrameType
	Flags  uint8
	Stream uint32
}

// ParseFrameHeader parses the 9 bytes of a frame header. The reserved bit is ignored.
func ParseFrameHeader(p []byte) FrameHeader {
	_ = p[8]
	return FrameHeader{
		Length: uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2]),
		Type:   FrameType(p[3]),
		Flags:  p[4],
		Stream: binary.BigEndian.Uint32(p[5:]) & maxStreamID,
	}
}

// AppendFrameHeader appends the header of a frame to dst.
func AppendFrameHeader(dst []byte, h FrameHeader) []byte {
	dst = append(dst, byte(h.Length>>16), byte(h.Length>>8), byte(h.Length), byte(h.Type), h.Flags)
	return binary.BigEndian.AppendUint32(dst, h.Stream)
}

func (h FrameHeader) has(flag uint8) bool { return h.Flags&flag != 0 }

// ErrCode is an error code of RST_STREAM and GOAWAY (RFC 9113 7).
type ErrCode uint32

// The error codes.
const (
	NoError            ErrCode = 0x0
	ProtocolError      ErrCode = 0x1
	InternalError      ErrCode = 0x2
	FlowControlError   ErrCode = 0x3
	SettingsTimeout    ErrCode = 0x4
	StreamClosed       ErrCode = 0x5
	FrameSizeError     ErrCode = 0x6
	RefusedStream      ErrCode = 0x7
	Cancel             ErrCode = 0x8
	CompressionError   ErrCode = 0x9
	ConnectError       ErrCode = 0xa
	EnhanceYourCalm    ErrCode = 0xb
	InadequateSecurity ErrCode = 0xc
	HTTP11Required     ErrCode = 0xd
)

// Setting is one parameter of a SETTINGS frame.
type Setting struct {
	ID    uint16
	Value uint32
}

// The settings that are told apart; others are ignored.
const (
	settingTableSize            = 0x1
	settingEnablePush           = 0x2
	settingMaxStreams           = 0x3
	settingInitialWindow        = 0x4
	settingMaxFrameSize         = 0x5
	settingMaxHeaderList        = 0x6
	settingEnableConnect        = 0x8 // RFC 8441
	settingLen                  = 6
	clientPreface               = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	maxSettings                 = 64 // parameters in one frame; there are not that many
	maxPeerFrameSize            = 1<<24 - 1
	minTableSize                = 4096 // what a peer's decoder has at first
	maxOurTableSize      uint32 = 64 << 10
)

// connError is an error that ends the connection (RFC 9113 5.4.1).
type connError struct {
	code    ErrCode
	reason  string
	details string // response_code_details of the streams that end with it
}

func (e *connError) Error() string { return fmt.Sprintf("h2: %s (error code %d)", e.reason, e.code) }

func protocol(reason string) *connError {
	return &connError{ProtocolError, reason, detailsUnknown}
}

func frameSize(reason string) *connError {
	return &connError{FrameSizeError, reason, detailsUnknown}
}

// unpad takes the padding off the payload of a DATA, HEADERS or PUSH_PROMISE frame.
func unpad(p []byte, h FrameHeader) ([]byte, *connError) {
	if !h.has(FlagPadded) {
		return p, nil
	}
	if len(p) == 0 {
		return nil, frameSize("padded frame without a length of padding")
	}
	n := int(p[0])
	if n >= len(p) {
		return nil, protocol("padding is longer than the frame")
	}
	return p[1 : len(p)-n], nil
}
