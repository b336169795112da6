;; trick: 1000 functions that call one another in a row
;; end: fine
(module
;;*1000 (func $f# (nop))

  (func (export "on_hit") 
;;*1000 (call $f#)
))
