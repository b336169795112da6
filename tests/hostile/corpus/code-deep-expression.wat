;; trick: an expression 5000 deep
;; end: fine
(module
  (func (export "on_hit") 
;;*5000 i32.const #

;;*4999 i32.xor
 drop))
