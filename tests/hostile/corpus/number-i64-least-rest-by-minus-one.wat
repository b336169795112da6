;; trick: its rest is zero, and the processor would fault
;; end: fine
(module
  (func (export "on_hit") (if (i64.ne (i64.rem_s (i64.const 0x8000000000000000) (i64.const -1)) (i64.const 0)) (then unreachable))))
