;; trick: a description that sets the window’s title
;; end: refused description
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"description\":\"\\u001b]0;owned\\u0007\"}"))
