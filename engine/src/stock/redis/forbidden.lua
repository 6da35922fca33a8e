-- Which of its arguments, each a command with its words, the user who calls this may not call.
local may_not = {}
for _, call in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(call, '%S+') do
    words[#words + 1] = word
  end
  if not redis.acl_check_cmd(unpack(words)) then
    may_not[#may_not + 1] = call
  end
end
return may_not
