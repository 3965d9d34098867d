package netio

// dueHeap orders parked connections by deadline, the earliest first. Each place
// knows its index, so that it can leave from the middle.
type dueHeap []*place

func (h *dueHeap) push(pl *place) {
	pl.at = len(*h)
	*h = append(*h, pl)
	h.up(pl.at)
}

func (h *dueHeap) remove(pl *place) {
	s := *h
	i, last := pl.at, len(s)-1
	s.swap(i, last)
	s[last] = nil
	*h = s[:last]
	pl.at = -1
	if i < last {
		h.down(i)
		h.up(i)
	}
}

func (h dueHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h dueHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].due <= h[i].due {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h dueHeap) down(i int) {
	for {
		least := 2*i + 1
		if least >= len(h) {
			return
		}
		if r := least + 1; r < len(h) && h[r].due < h[least].due {
			least = r
		}
		if h[i].due <= h[least].due {
			return
		}
		h.swap(i, least)
		i = least
	}
}
