package fromproto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// ownTypes is what the names of mecha's own types of configuration begin with. They travel
// as a TypedStruct with such a type URL; in files "@type" may name them directly. A
// filter.Any of one holds a serialised google.protobuf.Struct, for Own to read.
const ownTypes = "mecha."

// Own decodes a configuration of one of mecha's own types into a struct with json tags.
// Fields that it does not have are refused by name.
func Own(raw []byte, into any) error {
	var pb structpb.Struct
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return err
	}
	text, err := protojson.Marshal(&pb)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err = d.Decode(into)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field != "":
		return filter.At(wrong.Field, fmt.Errorf("is a %s, not a %s", wrong.Value, wrong.Type))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return filter.At(strings.Trim(name, `"`), errors.New("there is no such field"))
	}
	return err
}

// JSONDuration is a duration in the JSON form of protobuf: "1.5s".
type JSONDuration struct{ time.Duration }

// UnmarshalJSON implements json.Unmarshaler.
func (d *JSONDuration) UnmarshalJSON(text []byte) error {
	var pb durationpb.Duration
	if err := protojson.Unmarshal(text, &pb); err != nil {
		return fmt.Errorf("%s is not a duration, which is a number with the letter s", text)
	}
	d.Duration = pb.AsDuration()
	return nil
}
