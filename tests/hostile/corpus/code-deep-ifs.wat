;; trick: 1900 conditions in one another
;; end: fine
(module
  (func (export "on_hit") 
;;*1900 i32.const 1 if

;;*1900 end
))
