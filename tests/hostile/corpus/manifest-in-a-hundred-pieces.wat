;; trick: a hundred sections that add up
;; end: fine
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\22abi\22:1,\22name\22:\22p\22}")
;;*32 (@custom "trocar.manifest" "{\22maps\22:[{\22name\22:\22m#\22,\22kind\22:\22counter\22}]}")
)
