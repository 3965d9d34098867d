package dialogue

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// What there is in an OCSP response (RFC 6960 section 4.2.1), as far as it is made here.
type (
	ocspResponse struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type     asn1.ObjectIdentifier
			Response []byte
		} `asn1:"explicit,tag:0"`
	}
	ocspBasic struct {
		Data      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	ocspData struct {
		Responder []byte    `asn1:"explicit,tag:2"`
		Produced  time.Time `asn1:"generalized"`
		Responses []ocspSingle
	}
	ocspSingle struct {
		ID     ocspID
		Status asn1.RawValue
		This   time.Time `asn1:"generalized"`
		Next   time.Time `asn1:"generalized,explicit,tag:0"`
	}
	ocspID struct {
		Hash      pkix.AlgorithmIdentifier
		Name, Key []byte
		Serial    *big.Int
	}
)

// staple writes an OCSP response in which ca says until when the certificate called name
// is good.
func (p *pki) staple(file, name string, until time.Time) error {
	ca := p.certs["ca"]
	hash := sha1.Sum(ca.cert.RawSubject)
	data, err := asn1.Marshal(ocspData{Responder: hash[:], Produced: validFrom, Responses: []ocspSingle{{
		ID: ocspID{
			Hash: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, Parameters: asn1.NullRawValue},
			Name: hash[:], Key: hash[:], Serial: p.certs[name].cert.SerialNumber,
		},
		Status: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0}, // good
		This:   validFrom, Next: until,
	}}})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	signature, err := ca.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return err
	}
	basic, err := asn1.Marshal(ocspBasic{
		Data:      asn1.RawValue{FullBytes: data},
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, // ECDSA with SHA-256
		Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
	if err != nil {
		return err
	}
	var r ocspResponse
	r.Bytes.Type, r.Bytes.Response = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}, basic
	raw, err := asn1.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, file), raw, 0o600)
}
