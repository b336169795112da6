;; trick: recursion that passes 100 parameters each time
;; end: quarantined stack overflow
(module
  (func $f (param
;;*100  i64
  )
;;*100 (local.get #)
  (call $f) (nop))
  (func (export "on_hit") 
;;*100 (i64.const #)
  (call $f)))
