;; trick: the start function traps
;; end: refused unreachable
(module
  (func $s unreachable)
  (start $s)
  (func (export "on_hit") (nop)))
