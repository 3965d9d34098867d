package secret

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"time"
)

// The parts of an OCSP response (RFC 6960 section 4.2.1) that decide whether it can be
// stapled. The client verifies its signature.
type ocspResponse struct {
	Status asn1.Enumerated
	Bytes  struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	} `asn1:"explicit,tag:0,optional"`
}

type ocspBasic struct {
	Data struct {
		Raw       asn1.RawContent
		Version   int `asn1:"optional,default:0,explicit,tag:0"`
		Responder asn1.RawValue
		Produced  time.Time `asn1:"generalized"`
		Responses []ocspSingle
		Rest      asn1.RawValue `asn1:"optional,explicit,tag:1"`
	}
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
	Certs     asn1.RawValue `asn1:"optional,explicit,tag:0"`
}

type ocspSingle struct {
	ID struct {
		Hash      pkix.AlgorithmIdentifier
		Name, Key []byte
		Serial    *big.Int
	}
	Status     asn1.RawValue
	ThisUpdate time.Time     `asn1:"generalized"`
	NextUpdate time.Time     `asn1:"generalized,explicit,tag:0,optional"`
	Extensions asn1.RawValue `asn1:"explicit,tag:1,optional"`
}

var oidBasicOCSP = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}

// ParseStaple reads an OCSP response (DER), which must be a successful one for leaf.
func ParseStaple(raw []byte, leaf *x509.Certificate) (*Staple, error) {
	var r ocspResponse
	if rest, err := asn1.Unmarshal(raw, &r); err != nil || len(rest) > 0 {
		return nil, errors.New("is not an OCSP response")
	}
	if r.Status != 0 {
		return nil, errors.New("OCSP response was unsuccessful")
	}
	var b ocspBasic
	if rest, err := asn1.Unmarshal(r.Bytes.Response, &b); err != nil || len(rest) > 0 || !r.Bytes.Type.Equal(oidBasicOCSP) {
		return nil, errors.New("is not a basic OCSP response")
	}
	if len(b.Data.Responses) != 1 {
		return nil, errors.New("OCSP response must be for one certificate only")
	}
	s := b.Data.Responses[0]
	if s.ID.Serial == nil || s.ID.Serial.Cmp(leaf.SerialNumber) != 0 {
		return nil, errors.New("OCSP response does not match its TLS certificate")
	}
	return &Staple{Raw: bytes.Clone(raw), ThisUpdate: s.ThisUpdate, NextUpdate: s.NextUpdate}, nil
}
