package cluster

// list is a doubly linked list whose links are part of what is listed, so that
// listing allocates nothing and anything can leave from the middle. The zero value
// is an empty list. It has no lock.
type list[T any] struct {
	front, back *node[T]
	n           int
}

// node is the link in a T. Its owner sets it once.
type node[T any] struct {
	prev, next *node[T]
	in         *list[T]
	owner      *T
}

func (l *list[T]) pushFront(n *node[T]) {
	n.in, n.prev, n.next = l, nil, l.front
	if l.front != nil {
		l.front.prev = n
	} else {
		l.back = n
	}
	l.front = n
	l.n++
}

func (l *list[T]) pushBack(n *node[T]) {
	n.in, n.prev, n.next = l, l.back, nil
	if l.back != nil {
		l.back.next = n
	} else {
		l.front = n
	}
	l.back = n
	l.n++
}

// leave takes n out of the list that it is in, if any.
func (n *node[T]) leave() {
	l := n.in
	if l == nil {
		return
	}
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		l.front = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		l.back = n.prev
	}
	n.in, n.prev, n.next = nil, nil, nil
	l.n--
}

// first returns the owner of the front, nil if the list is empty.
func (l *list[T]) first() *T {
	if l.front == nil {
		return nil
	}
	return l.front.owner
}

// last returns the owner of the back, nil if the list is empty.
func (l *list[T]) last() *T {
	if l.back == nil {
		return nil
	}
	return l.back.owner
}
