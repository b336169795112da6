;; trick: the start function loops for ever
;; end: refused fuel
(module
  (func $s (loop (br 0)))
  (start $s)
  (func (export "on_hit") (nop)))
